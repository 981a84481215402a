"""What a label is: the ordered names, the three states of a cell, and a probability for each."""
