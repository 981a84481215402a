"""How good probabilities and decisions are: one value per label first, averages second, intervals by resampling."""
