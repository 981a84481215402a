"""The decoder heads against torch's own decoder layer, and their groups against one linear layer per group."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from manylabel.errors import ConfigError
from manylabel.models.heads.decoder import CrossAttentionLayer, GroupLinear
from manylabel.models.heads.ml_decoder import build_ml_decoder_head
from manylabel.models.heads.query2label import build_query2label_head


def test_the_layer_is_torchs_decoder_layer_whose_self_attention_adds_nothing() -> None:
    torch.manual_seed(0)
    own = CrossAttentionLayer(16, dropout=0.0)
    theirs = nn.TransformerDecoderLayer(16, 8, 64, dropout=0.0, batch_first=True)
    nn.init.zeros_(theirs.self_attn.out_proj.weight)
    nn.init.zeros_(theirs.self_attn.out_proj.bias)
    theirs.multihead_attn.load_state_dict(own.attend.state_dict())
    theirs.linear1.load_state_dict(own.feed[0].state_dict())
    theirs.linear2.load_state_dict(own.feed[3].state_dict())
    queries, tokens = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    assert own(queries, tokens).detach().numpy() == pytest.approx(theirs(queries, tokens).detach().numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("num_labels", "num_queries"),
    [
        pytest.param(6, 3, id="groups of two"),
        pytest.param(7, 3, id="groups of two and three"),
        pytest.param(4, 4, id="one label per group"),
        pytest.param(5, 1, id="one group"),
    ],
)
def test_a_label_is_answered_by_its_group_with_its_own_weights(num_labels: int, num_queries: int) -> None:
    torch.manual_seed(0)
    layer = GroupLinear(8, num_queries, [0.3] * num_labels)
    answers = torch.randn(2, num_queries, 8)
    logits = layer(answers)
    assert logits.shape == (2, num_labels)
    for label in range(num_labels):
        expected = answers[:, label % num_queries] @ layer.weight_LE[label] + layer.bias_L[label]
        assert logits[:, label].tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_groups_are_one_per_label_up_to_a_hundred() -> None:
    assert build_ml_decoder_head(8, [0.5] * 7, hidden=8).queries_QE.shape[0] == 7
    assert build_ml_decoder_head(8, [0.5] * 700, hidden=8).queries_QE.shape[0] == 100


def test_queries_are_learnt_by_query2label_and_kept_as_they_are_by_ml_decoder() -> None:
    assert "queries_QE" in dict(build_query2label_head(8, [0.5], hidden=8).named_parameters())
    assert "queries_QE" in dict(build_ml_decoder_head(8, [0.5], hidden=8).named_buffers())
    assert "queries_QE" in build_ml_decoder_head(8, [0.5], hidden=8).state_dict()


def test_more_groups_than_labels_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        build_ml_decoder_head(8, [0.5] * 4, num_groups=5)
    assert str(caught.value) == (
        "head num_groups: 5 groups for 4 labels, expected 1 to 4. Leave num_groups out of --head, or lower it."
    )


def test_more_labels_than_two_layers_can_compare_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        build_query2label_head(8, [0.5] * 1001, hidden=8)
    assert str(caught.value) == (
        "head num_layers: 1001 labels are too many to be compared with each other, expected at most 1000. "
        "Take --head ml_decoder, or --head query2label,num_layers=1."
    )
    assert build_query2label_head(8, [0.5] * 1001, hidden=8, num_layers=1)(torch.zeros(1, 2, 8)).shape == (1, 1001)


def test_with_two_layers_a_label_looks_at_the_others_and_with_one_it_does_not() -> None:
    tokens = torch.randn(1, 3, 8)
    for num_layers, looks in ((1, False), (2, True)):
        torch.manual_seed(0)
        head = build_query2label_head(8, [0.5, 0.5], hidden=8, num_layers=num_layers).eval()
        before = head(tokens)
        with torch.no_grad():
            head.queries_QE[1] += torch.randn(8)
        assert (head(tokens)[0, 0] != before[0, 0]).item() is looks
        assert head(tokens)[0, 1] != before[0, 1]
