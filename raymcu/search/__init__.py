"""`raymcu search`: an Optuna study for each cell of a grid, its trials run by Ray Tune."""
