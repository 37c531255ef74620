-- The role that regiondrift connects as, and exactly what it needs. PostgreSQL 13 and newer.
--
--   psql -d postgres -f postgresql.sql        as a superuser, on the primary; may be repeated
--   psql -d postgres -c '\password regiondrift'
--
-- It is replicated to standbys by itself. On the other side of logical replication it is run once more.
-- Beside it: a line in pg_hba.conf, on every node, since any may become the primary.
--
--   hostssl  all  regiondrift  EXPORTER/32  scram-sha-256

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'regiondrift') THEN
    CREATE ROLE regiondrift LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
  END IF;
END
$$;

-- pg_stat_replication, pg_stat_wal_receiver, pg_stat_progress_basebackup: who replicates from whom, and how far it is.
GRANT pg_read_all_stats TO regiondrift;

-- primary_conninfo: whether a standby has somebody to stream from. Its text, which may hold a password, is not read.
GRANT pg_read_all_settings TO regiondrift;

-- Both are part of pg_monitor, which would do as well, and may also lock tables for long (pg_stat_scan_tables).

-- Nothing is ever written. Here the server sees to it, too, for whoever comes by this password.
ALTER ROLE regiondrift SET default_transaction_read_only = on;

-- For logical replication only: how far a subscription got, told by the subscriber even while its worker is down. Functions
-- belong to a database: this holds for the one that is connected to now, which is the one to name in conninfo.
GRANT EXECUTE ON FUNCTION pg_show_replication_origin_status() TO regiondrift;

-- ... and where the right to connect was taken from everybody (REVOKE ... FROM PUBLIC), for each database with publications
-- or subscriptions:
--   GRANT CONNECT ON DATABASE app TO regiondrift;
