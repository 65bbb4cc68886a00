-- The second part of the administrator's step: databases of single tenants, and logins for tenants. Follows bootstrap.sql in the same
-- transaction (`unjucks-operator db sql` prints both), is safe to run again, and never takes anything away that holds data.
--
--   <prefix>_databases  NOLOGIN CREATEDB  owns the tenants' own databases. The service may become it; no login has CREATEDB itself.
--                                         CREATE DATABASE cannot run inside a function, so this right cannot be locked into one.
--   <prefix>_readers    NOLOGIN           group of all tenants' logins (ut_..._a, ut_..._b): reads the tenant's own rows, writes nothing
--   <prefix>_guests     NOLOGIN           group of the tenants' logins that may connect to this, the shared database
--
-- Logins are made by functions here, with the provisioner's rights: names are computed from the UID, only SCRAM verifiers are taken.

SELECT pg_catalog.set_config('role', 'none', true);
DO $$
DECLARE
    prefix text := current_setting('unjucks.prefix');
    superuser bool := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    kind text;
    role_name text;
    marker text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['databases', 'readers', 'guests'] LOOP
        role_name := prefix || '_' || kind;
        marker := 'unjucks:' || prefix || ':' || kind;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXECUTE format('COMMENT ON ROLE %I IS %L', role_name, marker);
        ELSIF (SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = role_name) IS DISTINCT FROM marker THEN
            RAISE EXCEPTION 'a role % exists and was not made for Unjucks Operator', role_name
                USING HINT = 'Choose another prefix (setting unjucks.prefix), or remove that role.', ERRCODE = '42710';
        END IF;
    END LOOP;
    EXECUTE format('ALTER ROLE %I NOLOGIN NOCREATEROLE NOINHERIT', prefix || '_databases');
    IF superuser OR (SELECT rolcreatedb FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('ALTER ROLE %I CREATEDB', prefix || '_databases');
    END IF;
    EXECUTE format('GRANT %I TO %I', prefix || '_databases', prefix || '_service');
    EXECUTE format('GRANT %I, %I TO %I WITH ADMIN OPTION', prefix || '_readers', prefix || '_guests', prefix || '_provisioner');
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), prefix || '_guests');
    IF superuser THEN
        -- A tenant's login reaches every database that lets everybody in, also these two that each server has.
        REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;
        EXECUTE format('GRANT SET ON PARAMETER temp_file_limit TO %I', prefix || '_provisioner');
        CREATE SCHEMA IF NOT EXISTS unjucks_admin;
        EXECUTE $f$
            CREATE OR REPLACE FUNCTION unjucks_admin.login_has(p_login name, p_verifier text) RETURNS bool
            LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
            'SELECT EXISTS (SELECT FROM pg_catalog.pg_authid a WHERE a.rolname = p_login AND a.rolname ~ ''^ut_[0-9a-f]{12}_[ab]$''
                               AND a.rolpassword IS NOT DISTINCT FROM p_verifier)'
        $f$;
        REVOKE ALL ON FUNCTION unjucks_admin.login_has(name, text) FROM PUBLIC;
        EXECUTE format('GRANT USAGE ON SCHEMA unjucks_admin TO %I', prefix || '_provisioner');
        EXECUTE format('GRANT EXECUTE ON FUNCTION unjucks_admin.login_has(name, text) TO %I', prefix || '_provisioner');
    ELSE
        EXECUTE format('GRANT %I TO %I', prefix || '_provisioner', current_user);
    END IF;
END $$;

-- ---------------------------------------------------------------- as the provisioner
SELECT pg_catalog.set_config('role', pg_catalog.current_setting('unjucks.prefix') || '_provisioner', true);

-- Where a tenant's rows are, and how far a move or a removal is. No line: in the shared database.
CREATE TABLE IF NOT EXISTS unjucks_ops.placement (
    tenant_id uuid PRIMARY KEY,
    role_name name NOT NULL UNIQUE CHECK (role_name ~ '^ut_[0-9a-f]{12}$'),
    home text NOT NULL DEFAULT 'shared' CHECK (home IN ('shared', 'dedicated')),
    database_state text NOT NULL DEFAULT 'none'
        CHECK (database_state IN ('none', 'creating', 'ready', 'retiring', 'tombstone', 'dropping', 'dropped')),
    contents text NOT NULL DEFAULT '',
    move uuid,
    move_to text CHECK (move_to IN ('shared', 'dedicated')),
    move_phase text CHECK (move_phase IN ('preparing', 'copying', 'fencing', 'verifying', 'switching', 'rolling-back')),
    move_progress jsonb NOT NULL DEFAULT '{}',
    move_started_at timestamptz,
    moved_at timestamptz,
    clear_after timestamptz,
    drop_after timestamptz,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((move IS NULL) = (move_to IS NULL) AND (move IS NULL) = (move_phase IS NULL)),
    CHECK (home = 'shared' OR database_state <> 'none')
);
COMMENT ON TABLE unjucks_ops.placement IS 'Where each tenant''s rows are. home decides; a move changes it in one statement.';

-- Whether a tenant may be worked for in this database now. Whoever writes holds its line FOR SHARE until the transaction ends, so that
-- changing the line waits for those who are inside, and nobody comes in afterwards.
CREATE TABLE IF NOT EXISTS unjucks_ops.gate (
    role_name name PRIMARY KEY CHECK (role_name ~ '^ut_[0-9a-f]{12}$'),
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'fenced', 'loading', 'sealed', 'away')),
    move uuid,
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE unjucks_ops.gate IS 'open: read and write; fenced: read; loading, sealed: the target of a move; away: not here.';

-- The tenants' logins. Two for each, so that a new one works before the old one ends.
CREATE TABLE IF NOT EXISTS unjucks_ops.credential (
    tenant_id uuid PRIMARY KEY,
    role_name name NOT NULL UNIQUE CHECK (role_name ~ '^ut_[0-9a-f]{12}$'),
    slot text CHECK (slot IN ('a', 'b')),
    version uuid,
    pending_slot text CHECK (pending_slot IN ('a', 'b')),
    pending_version uuid,
    verifier_a text,
    verifier_b text,
    shared bool NOT NULL,
    connections int NOT NULL CHECK (connections BETWEEN 1 AND 1000),
    settings jsonb NOT NULL DEFAULT '{}',
    rotated_at timestamptz,
    retire_at timestamptz
);
COMMENT ON TABLE unjucks_ops.credential IS 'Which of a tenant''s two logins is in use. Holds verifiers, never passwords.';

DO $$
DECLARE
    prefix text := current_setting('unjucks.prefix');
    item record;
    target name;
BEGIN
    FOREACH target IN ARRAY ARRAY['placement', 'gate', 'credential']::name[] LOOP
        EXECUTE format('ALTER TABLE unjucks_ops.%I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('ALTER TABLE unjucks_ops.%I FORCE ROW LEVEL SECURITY', target);
        FOR item IN SELECT polname FROM pg_policy WHERE polrelid = ('unjucks_ops.' || target)::regclass LOOP
            EXECUTE format('DROP POLICY %I ON unjucks_ops.%I', item.polname, target);
        END LOOP;
        EXECUTE format('CREATE POLICY provisioner ON unjucks_ops.%I TO %I USING (true) WITH CHECK (true)', target, prefix || '_provisioner');
    END LOOP;
    FOREACH target IN ARRAY ARRAY['placement', 'gate']::name[] LOOP
        EXECUTE format('CREATE POLICY service ON unjucks_ops.%I TO %I USING (true) WITH CHECK (true)', target, prefix || '_service');
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON unjucks_ops.%I TO %I', target, prefix || '_service');
    END LOOP;
    -- A login is one letter and a dash longer than the role of its tenant.
    EXECUTE format('DROP POLICY IF EXISTS own_login ON unjucks_ops.tenant');
    EXECUTE format('CREATE POLICY own_login ON unjucks_ops.tenant FOR SELECT TO %I '
                   'USING (role_name = left(current_user::text, 15)::name AND state = ''active'')', prefix || '_readers');
END $$;

-- Called by every transaction that acts as a tenant, right after it became the tenant's role. p_for: read, write, load (rows of a move
-- into its target), look (at them there), clear (what a move left behind).
CREATE OR REPLACE FUNCTION unjucks_ops.enter(p_for text, p_move uuid DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    me name := current_setting('role');
    known record;
BEGIN
    IF p_for IN ('read', 'look') THEN
        SELECT g.state, g.move INTO known FROM unjucks_ops.gate g WHERE g.role_name = me;
        IF NOT FOUND OR known.state IN ('open', 'fenced')
           OR p_for = 'look' AND known.state IN ('loading', 'sealed') AND known.move = p_move THEN
            RETURN;
        END IF;
    ELSE
        SELECT g.state, g.move INTO known FROM unjucks_ops.gate g WHERE g.role_name = me FOR SHARE;
        IF NOT FOUND THEN
            INSERT INTO unjucks_ops.gate (role_name) SELECT me WHERE me ~ '^ut_[0-9a-f]{12}$' ON CONFLICT DO NOTHING;
            SELECT g.state, g.move INTO known FROM unjucks_ops.gate g WHERE g.role_name = me FOR SHARE;
        END IF;
        IF p_for = 'write' AND known.state = 'open'
           OR p_for = 'load' AND known.state = 'loading' AND known.move = p_move
           OR p_for = 'clear' AND (known.state = 'away' OR known.state = 'loading' AND known.move = p_move) THEN
            RETURN;
        END IF;
    END IF;
    IF known.state = 'fenced' THEN
        RAISE EXCEPTION 'the rows of this tenant are being moved; writing goes on in a moment' USING ERRCODE = 'UJ005';
    END IF;
    RAISE EXCEPTION 'the rows of this tenant are not here (%)', coalesce(known.state, 'unknown') USING ERRCODE = 'UJ006';
END $$;

-- Each tenant's logins with everything that is not as it has to be; set-based.
CREATE OR REPLACE FUNCTION unjucks_ops.login_report(p_uid uuid DEFAULT NULL)
RETURNS TABLE (tenant_id uuid, role_name name, slot text, version uuid, pending_slot text, pending_version uuid, shared bool,
               rotated_at timestamptz, retire_at timestamptz, due bool, drift text[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
    prefix text;
    can_compare bool := to_regprocedure('unjucks_admin.login_has(name,text)') IS NOT NULL;
    may_limit_temp bool := has_parameter_privilege('temp_file_limit', 'SET');
BEGIN
    SELECT i.prefix INTO STRICT prefix FROM unjucks_ops.installation i;
    RETURN QUERY
    SELECT c.tenant_id, c.role_name, c.slot, c.version, c.pending_slot, c.pending_version, c.shared, c.rotated_at, c.retire_at,
           c.retire_at IS NOT NULL AND c.retire_at <= now(),
           array_remove(ARRAY(SELECT DISTINCT x FROM unnest(ARRAY[
               CASE WHEN c.slot IS NOT NULL AND cur.oid IS NULL THEN 'LoginMissing' END,
               CASE WHEN cur.oid IS NOT NULL AND NOT cur.rolcanlogin THEN 'LoginDisabled' END,
               CASE WHEN old.oid IS NOT NULL AND old.rolcanlogin AND c.retire_at IS NULL AND c.pending_slot IS NULL THEN 'OldLoginUsable' END]
               || ARRAY(SELECT unnest(ARRAY[
                   CASE WHEN r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls THEN 'DangerousAttribute' END,
                   CASE WHEN NOT r.rolinherit THEN 'NotInheriting' END,
                   CASE WHEN r.rolcanlogin AND r.rolconnlimit <> c.connections THEN 'ConnectionLimit' END,
                   CASE WHEN shobj_description(r.oid, 'pg_authid') IS DISTINCT FROM 'unjucks:' || prefix || ':' || c.tenant_id || ':' || right(r.rolname, 1)
                        THEN 'MarkerMissing' END,
                   CASE WHEN NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = (prefix || '_readers')::regrole)
                        THEN 'GroupMembershipMissing' END,
                   CASE WHEN c.shared <> EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = (prefix || '_guests')::regrole)
                        THEN 'GroupMembershipMissing' END,
                   CASE WHEN EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid
                                        AND (m.admin_option OR m.roleid NOT IN ((prefix || '_readers')::regrole, (prefix || '_guests')::regrole)))
                        THEN 'ForeignMembership' END,
                   CASE WHEN EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = r.oid AND m.member <> (prefix || '_provisioner')::regrole)
                        THEN 'ForeignMember' END,
                   CASE WHEN NOT EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase = 0
                                            AND s.setconfig @> unjucks_ops.login_settings(c.settings, may_limit_temp)
                                            AND s.setconfig <@ unjucks_ops.login_settings(c.settings, may_limit_temp))
                             OR EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase <> 0)
                        THEN 'RoleSettings' END,
                   CASE WHEN EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid
                                        AND d.deptype = 'o') THEN 'OwnsObjects' END,
                   CASE WHEN can_compare AND r.rolcanlogin AND NOT unjucks_ops.login_unchanged(r.rolname,
                             CASE right(r.rolname, 1) WHEN 'a' THEN c.verifier_a ELSE c.verifier_b END) THEN 'PasswordChanged' END])
                     FROM pg_roles r WHERE r.rolname IN (c.role_name || '_a', c.role_name || '_b'))) x), NULL)
      FROM unjucks_ops.credential c
      LEFT JOIN pg_roles cur ON cur.rolname = c.role_name || '_' || c.slot
      LEFT JOIN pg_roles old ON old.rolname = c.role_name || '_' || CASE c.slot WHEN 'a' THEN 'b' ELSE 'a' END
     WHERE p_uid IS NULL OR c.tenant_id = p_uid;
END $$;

CREATE OR REPLACE FUNCTION unjucks_ops.login_unchanged(p_login name, p_verifier text) RETURNS bool
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    same bool;
BEGIN
    EXECUTE 'SELECT unjucks_admin.login_has($1, $2)' INTO same USING p_login, p_verifier;
    RETURN same;
END $$;

-- What ALTER ROLE ... SET leaves in the catalog for these settings.
CREATE OR REPLACE FUNCTION unjucks_ops.login_settings(p_settings jsonb, p_temp bool) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ARRAY(SELECT e.key || '=' || e.value FROM jsonb_each_text(p_settings) e WHERE p_temp OR e.key <> 'temp_file_limit' ORDER BY e.key)
$$;

-- Attributes, limits, memberships and settings of one login, from nothing.
CREATE OR REPLACE FUNCTION unjucks_ops.login_write(p_uid uuid, p_slot text, p_can_login bool) RETURNS name
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    prefix text;
    known unjucks_ops.credential%ROWTYPE;
    login name;
    marker text;
    verifier text;
    item record;
BEGIN
    SELECT i.prefix INTO STRICT prefix FROM unjucks_ops.installation i;
    SELECT c.* INTO STRICT known FROM unjucks_ops.credential c WHERE c.tenant_id = p_uid;
    login := known.role_name || '_' || p_slot;
    marker := 'unjucks:' || prefix || ':' || p_uid || ':' || p_slot;
    verifier := CASE p_slot WHEN 'a' THEN known.verifier_a ELSE known.verifier_b END;
    IF login !~ '^ut_[0-9a-f]{12}_[ab]$' OR verifier IS NOT NULL
       AND verifier !~ '^SCRAM-SHA-256\$[0-9]{4,7}:[A-Za-z0-9+/=]{8,128}\$[A-Za-z0-9+/=]{44}:[A-Za-z0-9+/=]{44}$' THEN
        RAISE EXCEPTION 'not the login of a tenant, or not a SCRAM verifier' USING ERRCODE = 'UJ001';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = login) THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN NOCREATEDB NOCREATEROLE INHERIT', login);
        EXECUTE format('COMMENT ON ROLE %I IS %L', login, marker);
    ELSIF (SELECT shobj_description(r.oid, 'pg_authid') FROM pg_roles r WHERE r.rolname = login) IS DISTINCT FROM marker THEN
        RAISE EXCEPTION 'a role % exists and was not made for this tenant', login USING ERRCODE = 'UJ002';
    END IF;
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = login AND (r.rolsuper OR r.rolreplication OR r.rolbypassrls)) THEN
        RAISE EXCEPTION 'the login % has rights that only a superuser can take away', login USING ERRCODE = 'UJ008';
    END IF;
    -- To be able to end its sessions.
    IF NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = login::regrole AND m.member = (prefix || '_provisioner')::regrole) THEN
        EXECUTE format('GRANT %I TO %I', login, prefix || '_provisioner');
    END IF;
    FOR item IN SELECT m.roleid::regrole AS of_role, m.member::regrole AS member FROM pg_auth_members m
                 WHERE m.member = login::regrole AND (m.admin_option OR m.roleid NOT IN ((prefix || '_readers')::regrole, (prefix || '_guests')::regrole)
                                                      OR m.roleid = (prefix || '_guests')::regrole AND NOT known.shared)
                    OR m.roleid = login::regrole AND m.member <> (prefix || '_provisioner')::regrole LOOP
        EXECUTE format('REVOKE %s FROM %s', item.of_role, item.member);
    END LOOP;
    EXECUTE format('GRANT %I TO %I', prefix || '_readers', login);
    IF known.shared THEN
        EXECUTE format('GRANT %I TO %I', prefix || '_guests', login);
    END IF;
    FOR item IN SELECT d.datname FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE s.setrole = login::regrole LOOP
        EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', login, item.datname);
    END LOOP;
    EXECUTE format('ALTER ROLE %I RESET ALL', login);
    FOR item IN SELECT e.key, e.value FROM jsonb_each_text(known.settings) e
                 WHERE e.key <> 'temp_file_limit' OR has_parameter_privilege('temp_file_limit', 'SET') ORDER BY e.key LOOP
        EXECUTE format('ALTER ROLE %I SET %I = %L', login, item.key, item.value);
    END LOOP;
    EXECUTE format('ALTER ROLE %I %s INHERIT NOCREATEDB NOCREATEROLE CONNECTION LIMIT %s VALID UNTIL ''infinity'' PASSWORD %L', login,
                   CASE WHEN p_can_login THEN 'LOGIN' ELSE 'NOLOGIN' END, known.connections, CASE WHEN p_can_login THEN verifier END);
    RETURN login;
END $$;

-- The sessions of both logins of a tenant, or of one: a session outlives the right to log in.
CREATE OR REPLACE FUNCTION unjucks_ops.end_sessions(p_uid uuid, p_slot text DEFAULT NULL) RETURNS int
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FILTER (WHERE pg_terminate_backend(s.pid))::int FROM pg_stat_activity s
     WHERE s.usename IN (unjucks_ops.tenant_role(p_uid) || '_a', unjucks_ops.tenant_role(p_uid) || '_b')
       AND (p_slot IS NULL OR right(s.usename, 1) = p_slot)
$$;

-- Prepares the login that is not in use with a new verifier. Until login_commit the other one stays the tenant's. The step may be repeated.
-- p_others: connections that the operator itself may open. Refused when all limits together would not fit the server.
CREATE OR REPLACE FUNCTION unjucks_ops.login_begin(
    p_uid uuid, p_verifier text, p_version uuid, p_shared bool, p_connections int, p_settings jsonb, p_others int) RETURNS name
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known unjucks_ops.credential%ROWTYPE;
    next_slot text;
    budget int := floor(0.8 * current_setting('max_connections')::int) - p_others;
    promised int;
BEGIN
    PERFORM FROM unjucks_ops.tenant t WHERE t.tenant_id = p_uid AND t.state = 'active' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this tenant is not active' USING ERRCODE = 'UJ003';
    END IF;
    IF EXISTS (SELECT FROM jsonb_object_keys(p_settings) k WHERE k NOT IN ('statement_timeout', 'lock_timeout', 'temp_file_limit',
            'idle_in_transaction_session_timeout', 'idle_session_timeout', 'default_transaction_read_only', 'work_mem')) THEN
        RAISE EXCEPTION 'not a setting of a tenant''s login' USING ERRCODE = 'UJ001';
    END IF;
    SELECT c.* INTO known FROM unjucks_ops.credential c WHERE c.tenant_id = p_uid FOR UPDATE;
    IF NOT FOUND OR known.connections < p_connections THEN
        -- One at a time: two that begin together must see each other's share.
        LOCK TABLE unjucks_ops.credential IN SHARE ROW EXCLUSIVE MODE;
        SELECT coalesce(sum(c.connections), 0) INTO promised FROM unjucks_ops.credential c WHERE c.tenant_id <> p_uid;
        IF promised + p_connections > budget THEN
            RAISE EXCEPTION '% connections are promised to tenants and % are left of those that the server has for them', promised, greatest(budget - promised, 0)
                USING ERRCODE = 'UJ004';
        END IF;
    END IF;
    next_slot := CASE WHEN known.slot = 'a' THEN 'b' ELSE 'a' END;
    INSERT INTO unjucks_ops.credential (tenant_id, role_name, shared, connections, settings)
        VALUES (p_uid, unjucks_ops.tenant_role(p_uid), p_shared, p_connections, p_settings) ON CONFLICT (tenant_id) DO NOTHING;
    UPDATE unjucks_ops.credential c
       SET pending_slot = next_slot, pending_version = p_version, shared = p_shared, connections = p_connections, settings = p_settings,
           retire_at = NULL,
           verifier_a = CASE next_slot WHEN 'a' THEN p_verifier ELSE c.verifier_a END,
           verifier_b = CASE next_slot WHEN 'b' THEN p_verifier ELSE c.verifier_b END
     WHERE c.tenant_id = p_uid;
    -- Whoever still uses an older password of this login is cut off now, not later.
    PERFORM unjucks_ops.end_sessions(p_uid, next_slot);
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = unjucks_ops.tenant_role(p_uid) || '_' || CASE next_slot WHEN 'a' THEN 'b' ELSE 'a' END) THEN
        PERFORM unjucks_ops.login_write(p_uid, CASE next_slot WHEN 'a' THEN 'b' ELSE 'a' END, false);  -- so that rights can be given to both
    END IF;
    RETURN unjucks_ops.login_write(p_uid, next_slot, true);
END $$;

-- The Secret holds the new password: from now on it is the tenant's; the other one ends after p_overlap.
CREATE OR REPLACE FUNCTION unjucks_ops.login_commit(p_uid uuid, p_version uuid, p_overlap interval) RETURNS bool
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE unjucks_ops.credential c
       SET retire_at = CASE WHEN c.slot IS NOT NULL THEN now() + p_overlap END, slot = c.pending_slot, version = c.pending_version,
           rotated_at = now(), pending_slot = NULL, pending_version = NULL
     WHERE c.tenant_id = p_uid AND c.pending_version = p_version;
    RETURN FOUND OR EXISTS (SELECT FROM unjucks_ops.credential c WHERE c.tenant_id = p_uid AND c.version = p_version);
END $$;

-- Brings both logins into the state that the record says: limits, memberships and settings repaired, and the old one ended when it is due.
CREATE OR REPLACE FUNCTION unjucks_ops.login_mend(p_uid uuid, p_shared bool, p_connections int, p_settings jsonb) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known unjucks_ops.credential%ROWTYPE;
    report record;
    old_slot text;
BEGIN
    SELECT c.* INTO known FROM unjucks_ops.credential c WHERE c.tenant_id = p_uid FOR UPDATE;
    IF NOT FOUND OR known.slot IS NULL THEN
        RETURN '{}';
    END IF;
    SELECT r.* INTO STRICT report FROM unjucks_ops.login_report(p_uid) r;
    IF report.drift = '{}' AND NOT report.due AND known.shared = p_shared AND known.connections = p_connections AND known.settings = p_settings THEN
        RETURN '{}';
    END IF;
    old_slot := CASE known.slot WHEN 'a' THEN 'b' ELSE 'a' END;
    UPDATE unjucks_ops.credential c SET shared = p_shared, connections = p_connections, settings = p_settings,
           retire_at = CASE WHEN report.due THEN NULL ELSE c.retire_at END
     WHERE c.tenant_id = p_uid;
    PERFORM unjucks_ops.login_write(p_uid, known.slot, true);
    PERFORM unjucks_ops.login_write(p_uid, old_slot, known.pending_slot IS NOT NULL OR known.retire_at IS NOT NULL AND NOT report.due);
    IF known.pending_slot IS NULL AND (known.retire_at IS NULL OR report.due) THEN
        UPDATE unjucks_ops.credential c SET verifier_a = CASE old_slot WHEN 'a' THEN NULL ELSE c.verifier_a END,
               verifier_b = CASE old_slot WHEN 'b' THEN NULL ELSE c.verifier_b END WHERE c.tenant_id = p_uid;
        PERFORM unjucks_ops.end_sessions(p_uid, old_slot);
    END IF;
    IF known.shared AND NOT p_shared OR 'PasswordChanged' = ANY (report.drift) THEN
        PERFORM unjucks_ops.end_sessions(p_uid);
    END IF;
    RETURN report.drift;
END $$;

-- No direct access any more: both logins end at once. The roles themselves go when nothing depends on them.
CREATE OR REPLACE FUNCTION unjucks_ops.login_drop(p_uid uuid) RETURNS bool
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known unjucks_ops.credential%ROWTYPE;
    login name;
    gone bool := true;
    mark text;
BEGIN
    SELECT c.* INTO known FROM unjucks_ops.credential c WHERE c.tenant_id = p_uid FOR UPDATE;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    FOREACH mark IN ARRAY ARRAY['a', 'b'] LOOP
        login := known.role_name || '_' || mark;
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = login);
        PERFORM unjucks_ops.login_write(p_uid, mark, false);
        PERFORM unjucks_ops.end_sessions(p_uid, mark);
        IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = login) THEN
            BEGIN
                EXECUTE format('DROP ROLE %I', login);
            EXCEPTION WHEN dependent_objects_still_exist OR object_in_use THEN
                gone := false;
            END;
        END IF;
    END LOOP;
    IF gone THEN
        DELETE FROM unjucks_ops.credential c WHERE c.tenant_id = p_uid;
    ELSE
        UPDATE unjucks_ops.credential c SET slot = NULL, version = NULL, pending_slot = NULL, pending_version = NULL, retire_at = NULL,
               verifier_a = NULL, verifier_b = NULL WHERE c.tenant_id = p_uid;
    END IF;
    RETURN gone;
END $$;

-- Databases of this server that let everybody in: a tenant's login could connect to them.
CREATE OR REPLACE FUNCTION unjucks_ops.open_databases() RETURNS SETOF name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.datname FROM pg_database d WHERE d.datallowconn AND has_database_privilege(0::oid, d.oid, 'CONNECT') ORDER BY 1
$$;

DO $$
DECLARE
    prefix text := current_setting('unjucks.prefix');
    item record;
BEGIN
    FOR item IN SELECT f.oid::regprocedure AS target FROM pg_proc f
                 WHERE f.pronamespace = 'unjucks_ops'::regnamespace
                   AND (f.proname LIKE 'login\_%' OR f.proname IN ('enter', 'end_sessions', 'open_databases')) LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', item.target);
    END LOOP;
    EXECUTE format('GRANT EXECUTE ON FUNCTION unjucks_ops.enter(text, uuid) TO %I', prefix || '_tenants');
    EXECUTE format('GRANT EXECUTE ON FUNCTION unjucks_ops.login_report(uuid), '
                   'unjucks_ops.login_begin(uuid, text, uuid, bool, int, jsonb, int), unjucks_ops.login_commit(uuid, uuid, interval), '
                   'unjucks_ops.login_mend(uuid, bool, int, jsonb), unjucks_ops.login_drop(uuid), unjucks_ops.end_sessions(uuid, text), '
                   'unjucks_ops.open_databases() TO %I', prefix || '_service');
    EXECUTE format('GRANT USAGE ON SCHEMA unjucks_ops TO %I', prefix || '_readers');
    EXECUTE format('GRANT SELECT (tenant_id, role_name, state) ON unjucks_ops.tenant TO %I', prefix || '_readers');
    UPDATE unjucks_ops.installation SET version = greatest(version, 2);
    UPDATE unjucks_ops.installation SET baseline = ARRAY(SELECT unjucks_ops.security_lines('unjucks_ops'));
END $$;

-- ---------------------------------------------------------------- as the administrator again: give back what was only lent
SELECT pg_catalog.set_config('role', 'none', true);
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('REVOKE %I FROM %I', current_setting('unjucks.prefix') || '_provisioner', current_user);
    END IF;
END $$;
