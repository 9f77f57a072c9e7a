"""How good circuits are for their size: KL and accuracy against edges, several seeds, both mask parameterisations.

    python benchmarks/quality.py MODEL TASK [--seeds 3] [--sizes 20,30,...] [--methods default,paper-short] [--out FILE]

Everything is measured on held-out test pairs with patch ablation. A method that ranks all edges in one run is run once
