"""What papers claim of unlearned models, as tests of a study's tables: one function a claim."""
