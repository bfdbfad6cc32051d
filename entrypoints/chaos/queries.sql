-- name: end_connections
-- What a restarted pgbouncer, or an operator, does to everybody's connections but the one that asks.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid();
