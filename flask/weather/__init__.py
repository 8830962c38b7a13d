"""The application: average temperatures by location, from PostgreSQL by way of caches."""
