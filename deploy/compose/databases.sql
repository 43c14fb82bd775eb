-- The databases of the team stack; what exists already stays. PostgreSQL's image runs it at the first start, `make stack`
-- at every start. The servers use the role that owns the cluster. Flow runs use only the database of sweeps, with a role
-- of their own, whose password is in the environment of psql.
SELECT format('CREATE DATABASE %I', name)
FROM unnest(ARRAY ['prefect', 'mlflow', 'mlflow_auth']) AS name
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec

\getenv sweeps_password SWEEPS_PASSWORD
SELECT format('CREATE ROLE sweeps LOGIN PASSWORD %L', :'sweeps_password')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sweeps') \gexec
SELECT 'CREATE DATABASE sweeps OWNER sweeps'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'sweeps') \gexec

SELECT format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', name)
FROM unnest(ARRAY ['prefect', 'mlflow', 'mlflow_auth', 'postgres']) AS name \gexec
