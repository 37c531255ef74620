"""What is lost, how long it takes and would it run there: a Prometheus exporter for the space between regions."""

__version__ = "0.1.0"
