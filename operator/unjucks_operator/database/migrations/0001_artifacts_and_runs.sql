-- The tenants' rows: template trees by digest, and the ledger of runs. Who may see what is in ../security.sql.
-- text with CHECK instead of enum types: "=" on an enum is not leakproof, so row security would cost the index.

CREATE TABLE unjucks.artifact (
    tenant_id uuid NOT NULL,
    digest text NOT NULL CHECK (digest ~ '^sha256:[0-9a-f]{64}$'),
    content bytea NOT NULL CHECK (octet_length(content) <= 33554432),
    size bigint NOT NULL CHECK (size >= 0),
    files int NOT NULL CHECK (files >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, digest)
);
ALTER TABLE unjucks.artifact ALTER COLUMN content SET STORAGE EXTERNAL;  -- it is compressed already
COMMENT ON TABLE unjucks.artifact IS 'Normalised file trees, compressed, by the digest of the tree.';
COMMENT ON COLUMN unjucks.artifact.size IS 'Bytes of all files together, before compression.';

CREATE TABLE unjucks.generation_run (
    tenant_id uuid NOT NULL,
    job_uid uuid NOT NULL,
    run_key text NOT NULL CHECK (octet_length(run_key) BETWEEN 1 AND 200),
    attempt int NOT NULL DEFAULT 1 CHECK (attempt > 0),
    state text NOT NULL DEFAULT 'claimed' CHECK (state IN ('claimed', 'rendered', 'published', 'failed')),
    holder text NOT NULL CHECK (octet_length(holder) BETWEEN 1 AND 200),
    manifest_digest text CHECK (manifest_digest ~ '^sha256:[0-9a-f]{64}$'),
    output jsonb CHECK (octet_length(output::text) <= 16384),
    failure_reason text CHECK (octet_length(failure_reason) <= 100),
    failure_message text CHECK (octet_length(failure_message) <= 4096),
    failure_final bool NOT NULL DEFAULT false,
    publications int NOT NULL DEFAULT 0 CHECK (publications >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    claimed_at timestamptz NOT NULL DEFAULT now(),
    rendered_at timestamptz,
    published_at timestamptz,
    failed_at timestamptz,
    PRIMARY KEY (tenant_id, job_uid, run_key),
    CHECK (state <> 'rendered' OR manifest_digest IS NOT NULL),
    CHECK (state <> 'published' OR (manifest_digest IS NOT NULL AND output IS NOT NULL AND publications > 0)),
    CHECK (state <> 'failed' OR failure_reason IS NOT NULL)
);
COMMENT ON TABLE unjucks.generation_run IS 'One row for each thing to publish: (job, run key). attempt is the fence.';
CREATE INDEX generation_run_by_time ON unjucks.generation_run (tenant_id, created_at);
