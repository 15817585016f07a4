"""A fleet of workers that cancel failed withdraw tickets: procrastinate on PostgreSQL keeps the work and its record."""
