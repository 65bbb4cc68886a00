-- What a tenant's own database has besides the migrations and security.sql: the same names as in the shared database, so that the same
-- statements run in both. Run as <prefix>_owner, which may create schemas here for this moment only. Safe to run again.
-- The functions unjucks_ops.role_of, security_lines and enter are copied from the shared database by the operator.

CREATE SCHEMA IF NOT EXISTS unjucks;
CREATE SCHEMA IF NOT EXISTS unjucks_ops;

CREATE TABLE IF NOT EXISTS unjucks_ops.installation (
    singleton bool PRIMARY KEY DEFAULT true CHECK (singleton),
    prefix text NOT NULL
);
CREATE TABLE IF NOT EXISTS unjucks_ops.tenant (
    tenant_id uuid PRIMARY KEY,
    role_name name NOT NULL UNIQUE CHECK (role_name ~ '^ut_[0-9a-f]{12}$'),
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'tombstone', 'dropped'))
);
CREATE UNIQUE INDEX IF NOT EXISTS tenant_is_alone ON unjucks_ops.tenant ((true));
COMMENT ON TABLE unjucks_ops.tenant IS 'Whose database this is: one line, never another.';
CREATE TABLE IF NOT EXISTS unjucks_ops.gate (
    role_name name PRIMARY KEY CHECK (role_name ~ '^ut_[0-9a-f]{12}$'),
    state text NOT NULL DEFAULT 'away' CHECK (state IN ('open', 'fenced', 'loading', 'sealed', 'away')),
    move uuid,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS unjucks.schema_migration (
    version int PRIMARY KEY CHECK (version > 0),
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by name NOT NULL DEFAULT session_user
);
CREATE TABLE IF NOT EXISTS unjucks.security_baseline (
    singleton bool PRIMARY KEY DEFAULT true CHECK (singleton),
    checksum text NOT NULL,
    server_version int NOT NULL,
    lines text[] NOT NULL
);
