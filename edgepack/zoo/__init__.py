"""Networks that recipes, benchmarks and tests use. Data only through scikit-learn; weights are made here."""
