-- What can be generated from a stored tree. Who may see what is in ../security.sql.

CREATE TABLE unjucks.catalog (
    tenant_id uuid NOT NULL,
    key text NOT NULL CHECK (key ~ '^sha256:[0-9a-f]{64}$'),
    digest text NOT NULL CHECK (digest ~ '^sha256:[0-9a-f]{64}$'),
    content bytea NOT NULL CHECK (octet_length(content) <= 8388608),
    used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);
ALTER TABLE unjucks.catalog ALTER COLUMN content SET STORAGE EXTERNAL;  -- it is compressed already
COMMENT ON TABLE unjucks.catalog IS 'Actions with their schemas, by tree digest, engine options and shared schema.';
