"""What Locust's page has beyond Locust: who may use it, its tab "Stack", metrics for Prometheus."""
