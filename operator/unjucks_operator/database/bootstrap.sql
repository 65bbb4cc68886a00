-- Run once by an administrator in the database that Unjucks Operator shall use; safe to run again (also after an upgrade).
--
--   psql -1 -v ON_ERROR_STOP=1 -f bootstrap.sql "postgresql://admin@server/unjucks"
--
-- or `unjucks-operator db bootstrap`, which runs this same file. It needs a superuser, or the owner of the database with
-- CREATEROLE. It must run in one transaction (-1).
--
-- What it makes (names start with the prefix in the setting unjucks.prefix, default "unjucks"; one prefix for each database):
--   <prefix>_provisioner  NOLOGIN CREATEROLE  owns schema unjucks_ops: the tenant table and the functions that make tenant roles
--   <prefix>_owner        NOLOGIN             owns schema unjucks: the tables with the tenants' rows
--   <prefix>_tenants      NOLOGIN             group of all tenant roles; the only receiver of table rights; row security holds for it
--   <prefix>_service      NOLOGIN NOINHERIT   may SET ROLE to each active tenant, and call the functions; has no table rights
--   <prefix>_reaper       NOLOGIN             may delete rows of tenants that were retired, and no others
-- A login for the operator is a member of <prefix>_service; nothing the operator can log in as has CREATEROLE.
--
-- Why two schemas: on PostgreSQL 15 a role with CREATEROLE can make itself anything. So the functions that run with that right
-- must never touch an object that a weaker role owns (a trigger or a policy on such a table would run with their rights).
-- For the same reason nobody but the provisioner may create anything in unjucks_ops.

SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
SELECT pg_catalog.set_config('client_min_messages', 'warning', true);
SELECT pg_catalog.set_config('lock_timeout', '10s', true);

DO $$
DECLARE
    prefix text := coalesce(nullif(current_setting('unjucks.prefix', true), ''), 'unjucks');
    kind text;
    role_name text;
    marker text;
    item record;
    me record;
BEGIN
    IF current_setting('server_version_num')::int < 150000 THEN
        RAISE EXCEPTION 'PostgreSQL 15 or newer is needed, this is %', current_setting('server_version');
    END IF;
    IF prefix !~ '^[a-z][a-z0-9_]{0,30}$' OR prefix ~ '^(pg_|ut_)' THEN
        RAISE EXCEPTION 'the prefix % is not usable: lower-case letters, digits and _, at most 31, not pg_ or ut_', prefix;
    END IF;
    PERFORM set_config('unjucks.prefix', prefix, true);
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'unjucks_ops') THEN
        -- Two administrators at once, the first time. Later a table lock does it: any role may take advisory locks.
        PERFORM pg_advisory_xact_lock(7310263542901);
    END IF;
    SELECT r.rolsuper, r.rolcreaterole, pg_has_role(current_user, d.datdba, 'USAGE') AS owns_database INTO me
      FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database();
    IF NOT me.rolsuper AND NOT (me.rolcreaterole AND me.owns_database) THEN
        RAISE EXCEPTION '% may not set up the database', current_user
            USING HINT = 'Run this as a superuser, or as the owner of the database with CREATEROLE.', ERRCODE = '42501';
    END IF;
    FOREACH kind IN ARRAY ARRAY['provisioner', 'owner', 'tenants', 'service', 'reaper'] LOOP
        role_name := prefix || '_' || kind;
        marker := 'unjucks:' || prefix || ':' || kind;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXECUTE format('COMMENT ON ROLE %I IS %L', role_name, marker);
        ELSIF (SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = role_name) IS DISTINCT FROM marker THEN
            RAISE EXCEPTION 'a role % exists and was not made for Unjucks Operator', role_name
                USING HINT = 'Choose another prefix (setting unjucks.prefix), or remove that role.', ERRCODE = '42710';
        END IF;
        -- Only when it must: two sessions that change the same role at once get an internal error, and this is before the locks.
        IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role_name AND (r.rolcanlogin OR r.rolcreatedb
                       OR r.rolcreaterole <> (kind = 'provisioner') OR r.rolinherit <> (kind <> 'service'))) THEN
            EXECUTE format('ALTER ROLE %I NOLOGIN NOCREATEDB %s %s', role_name,
                CASE kind WHEN 'provisioner' THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END,
                CASE kind WHEN 'service' THEN 'NOINHERIT' ELSE 'INHERIT' END);
        END IF;
        IF NOT me.rolsuper THEN
            -- An administrator who is no superuser acts through these two, for this transaction only (undone at the end).
            IF kind IN ('provisioner', 'owner') THEN
                EXECUTE format('GRANT %I TO %I', role_name, current_user);
            END IF;
        END IF;
    END LOOP;
    -- Everybody takes locks in this order: the record of migrations, (tables of tenants' rows,) unjucks_ops. An operator that migrates
    -- or sets row security holds the first while it reads the others; taking the first last would be a deadlock with it.
    FOR item IN SELECT n.nspname, c.relname, pg_get_userbyid(c.relowner) AS owner,
                       CASE c.relname WHEN 'tenant' THEN 'ACCESS EXCLUSIVE' ELSE 'SHARE ROW EXCLUSIVE' END AS mode
                  FROM (VALUES (1, 'unjucks', 'schema_migration'), (2, 'unjucks_ops', 'installation'), (3, 'unjucks_ops', 'tenant')) w(place, s, t)
                  JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t
                 WHERE pg_get_userbyid(c.relowner) IN (prefix || '_owner', prefix || '_provisioner') ORDER BY w.place LOOP
        PERFORM set_config('role', item.owner, true);
        EXECUTE format('LOCK TABLE %I.%I IN %s MODE', item.nspname, item.relname, item.mode);
        PERFORM set_config('role', 'none', true);
    END LOOP;
    EXECUTE format('GRANT %I TO %I WITH ADMIN OPTION', prefix || '_tenants', prefix || '_provisioner');
    EXECUTE format('GRANT %I TO %I', prefix || '_reaper', prefix || '_service');
    IF coalesce(nullif(current_setting('unjucks.service_migrates', true), ''), 'on') = 'on' THEN
        EXECUTE format('GRANT %I TO %I', prefix || '_owner', prefix || '_service');
    ELSIF pg_has_role(prefix || '_service', prefix || '_owner', 'MEMBER') THEN
        EXECUTE format('REVOKE %I FROM %I', prefix || '_owner', prefix || '_service');
    END IF;
    -- Nobody comes into this database, makes temporary tables or fills schema public without being told so.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), prefix || '_service');
    EXECUTE format('GRANT CREATE ON DATABASE %I TO %I, %I', current_database(), prefix || '_owner', prefix || '_provisioner');
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS unjucks AUTHORIZATION %I', prefix || '_owner');
    EXECUTE format('CREATE SCHEMA IF NOT EXISTS unjucks_ops AUTHORIZATION %I', prefix || '_provisioner');
    EXECUTE format('REVOKE CREATE ON DATABASE %I FROM %I, %I', current_database(), prefix || '_owner', prefix || '_provisioner');
    IF EXISTS (SELECT FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
               WHERE (n.nspname, r.rolname) NOT IN (('unjucks', prefix || '_owner'), ('unjucks_ops', prefix || '_provisioner'))
                 AND n.nspname IN ('unjucks', 'unjucks_ops')) THEN
        RAISE EXCEPTION 'schema unjucks or unjucks_ops exists and belongs to somebody else'
            USING HINT = 'Was this database set up with another prefix? Give that one, or another database.', ERRCODE = '42P06';
    END IF;
    IF me.rolsuper THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        -- Large objects have no row security, and anybody may make them.
        REVOKE EXECUTE ON FUNCTION pg_catalog.lo_create(oid), pg_catalog.lo_creat(integer),
            pg_catalog.lo_from_bytea(oid, bytea), pg_catalog.lo_open(oid, integer), pg_catalog.lo_put(oid, bigint, bytea),
            pg_catalog.lowrite(integer, bytea), pg_catalog.lo_unlink(oid) FROM PUBLIC;
    END IF;
END $$;

-- ---------------------------------------------------------------- as the provisioner: tenants and the functions of the operator
SELECT pg_catalog.set_config('role', pg_catalog.current_setting('unjucks.prefix') || '_provisioner', true);

CREATE TABLE IF NOT EXISTS unjucks_ops.installation (
    singleton bool PRIMARY KEY DEFAULT true CHECK (singleton),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    prefix text NOT NULL,
    version int NOT NULL,
    baseline text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
LOCK TABLE unjucks_ops.installation IN SHARE ROW EXCLUSIVE MODE;
COMMENT ON TABLE unjucks_ops.installation IS 'What bootstrap.sql set up here, and the rights as it left them.';

CREATE TABLE IF NOT EXISTS unjucks_ops.tenant (
    tenant_id uuid PRIMARY KEY,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 253),
    role_name name NOT NULL UNIQUE CHECK (role_name ~ '^ut_[0-9a-f]{12}$'),
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'tombstone', 'dropped')),
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    dropped_at timestamptz
);
COMMENT ON TABLE unjucks_ops.tenant IS 'Which role is which tenant (its UID). Rows are never removed: a dropped UID never comes back.';

ALTER TABLE unjucks_ops.tenant ENABLE ROW LEVEL SECURITY;
ALTER TABLE unjucks_ops.tenant FORCE ROW LEVEL SECURITY;

DO $$
DECLARE
    prefix text := current_setting('unjucks.prefix');
    item record;
BEGIN
    IF EXISTS (SELECT FROM unjucks_ops.installation i WHERE i.prefix <> current_setting('unjucks.prefix')) THEN
        RAISE EXCEPTION 'this database was set up with another prefix'
            USING HINT = 'SELECT prefix FROM unjucks_ops.installation; then run this with that prefix.', ERRCODE = '55000';
    END IF;
    FOR item IN SELECT polname FROM pg_policy WHERE polrelid = 'unjucks_ops.tenant'::regclass LOOP
        EXECUTE format('DROP POLICY %I ON unjucks_ops.tenant', item.polname);
    END LOOP;
    EXECUTE format('CREATE POLICY provisioner ON unjucks_ops.tenant TO %I USING (true) WITH CHECK (true)', prefix || '_provisioner');
    EXECUTE format('CREATE POLICY own_row ON unjucks_ops.tenant FOR SELECT TO %I '
                   'USING (role_name = current_user AND state = ''active'')', prefix || '_tenants');
    EXECUTE format('CREATE POLICY retired ON unjucks_ops.tenant FOR SELECT TO %I USING (state <> ''active'')', prefix || '_reaper');
END $$;

-- PostgreSQL ignores row security on what it takes for its own: everything that was numbered before a first real start of the server.
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_class c WHERE c.relnamespace IN ('unjucks'::regnamespace, 'unjucks_ops'::regnamespace) AND c.oid < 16384) THEN
        RAISE EXCEPTION 'the tables of this database were made in single-user mode: row security does not work on them'
            USING HINT = 'Start with a new database, made while the server runs.', ERRCODE = '55000';
    END IF;
END $$;

-- What a later reader of the catalog compares: owners, row security, policies, rights, functions of one schema, a line each.
CREATE OR REPLACE FUNCTION unjucks_ops.security_lines(p_schema name) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('schema %s owner %s rights %s', n.nspname, pg_get_userbyid(n.nspowner),
                  (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(n.nspacl) a))
      FROM pg_namespace n WHERE n.nspname = p_schema
    UNION ALL
    SELECT format('relation %s kind %s owner %s rowsecurity %s forced %s rights %s options %s', c.relname, c.relkind,
                  pg_get_userbyid(c.relowner), c.relrowsecurity, c.relforcerowsecurity,
                  (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(c.relacl) a), c.reloptions)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = p_schema AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL
    SELECT format('column %s.%s rights %s', c.relname, t.attname,
                  (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(t.attacl) a))
      FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = p_schema AND t.attacl IS NOT NULL
    UNION ALL
    SELECT format('policy %s on %s permissive %s for %s to %s using %s check %s', p.polname, c.relname, p.polpermissive, p.polcmd,
                  (SELECT string_agg(pg_get_userbyid(r), ',' ORDER BY pg_get_userbyid(r)) FROM unnest(p.polroles) r),
                  pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
      FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = p_schema
    UNION ALL
    SELECT format('function %s(%s) owner %s definer %s settings %s rights %s body %s', f.proname,
                  pg_get_function_identity_arguments(f.oid), pg_get_userbyid(f.proowner), f.prosecdef, f.proconfig,
                  (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(f.proacl) a), md5(f.prosrc))
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace WHERE n.nspname = p_schema
    UNION ALL
    SELECT format('trigger %s on %s enabled %s calls %s', g.tgname, c.relname, g.tgenabled, g.tgfoid::regproc)
      FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = p_schema AND NOT g.tgisinternal
    UNION ALL
    SELECT format('rule %s on %s', w.rulename, c.relname)
      FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = p_schema
$$;

CREATE OR REPLACE FUNCTION unjucks_ops.installation_drift() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'unexpected: ' || l FROM unjucks_ops.security_lines('unjucks_ops') l
     WHERE l <> ALL ((SELECT baseline FROM unjucks_ops.installation)::text[])
    UNION ALL
    SELECT 'missing: ' || b FROM unjucks_ops.installation i, unnest(i.baseline) b
     WHERE b NOT IN (SELECT unjucks_ops.security_lines('unjucks_ops'))
$$;

CREATE OR REPLACE FUNCTION unjucks_ops.role_of(p_kind text) RETURNS name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (prefix || '_' || p_kind)::name FROM unjucks_ops.installation
$$;

-- The role is computed from the UID here as well: no caller can choose a name.
CREATE OR REPLACE FUNCTION unjucks_ops.tenant_role(p_uid uuid) RETURNS name
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT ('ut_' || left(encode(sha256(convert_to(p_uid::text, 'UTF8')), 'hex'), 12))::name
$$;

-- One row for each tenant (or for one), with everything that is not as it has to be. The sweep and ensure read this same text.
-- In plpgsql, with one generic plan (hence the range): planning takes ten times as long as running it for one tenant. Without sequential scans because
-- nobody analyses the catalogs of a young server, and a plan for ten roles is a bad one for a thousand.
CREATE OR REPLACE FUNCTION unjucks_ops.tenant_report(p_uid uuid DEFAULT NULL)
RETURNS TABLE (tenant_id uuid, name text, role_name name, state text, drift text[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY WITH fixed AS MATERIALIZED (
        SELECT i.prefix,
               (SELECT oid FROM pg_roles WHERE rolname = i.prefix || '_tenants') AS tenants,
               (SELECT oid FROM pg_roles WHERE rolname = i.prefix || '_service') AS service,
               -- From version 16 on, whoever creates a role is made its administrator.
               CASE WHEN current_setting('server_version_num')::int >= 160000
                    THEN (SELECT oid FROM pg_roles WHERE rolname = i.prefix || '_provisioner') END AS maker
          FROM unjucks_ops.installation i
    )
    SELECT t.tenant_id, t.name, t.role_name, t.state,
           array_remove(CASE
               WHEN t.state = 'dropped' THEN ARRAY[CASE WHEN r.oid IS NOT NULL THEN 'RoleRemains' END]
               WHEN r.oid IS NULL THEN ARRAY[CASE WHEN t.state = 'active' THEN 'RoleMissing' END]
               ELSE ARRAY[
                   CASE WHEN r.rolcanlogin THEN 'RoleCanLogin' END,
                   CASE WHEN r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
                        THEN 'DangerousAttribute' END,
                   CASE WHEN NOT r.rolinherit THEN 'NotInheriting' END,
                   CASE WHEN NOT EXISTS (SELECT FROM pg_shdescription c WHERE c.objoid = r.oid AND c.classoid = 'pg_authid'::regclass
                                            AND c.description = 'unjucks:' || f.prefix || ':' || t.tenant_id)
                        THEN 'MarkerMissing' END,
                   CASE WHEN NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = f.tenants)
                        THEN 'GroupMembershipMissing' END,
                   CASE WHEN EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid
                                        AND (m.roleid <> f.tenants OR m.admin_option)) THEN 'ForeignMembership' END,
                   CASE WHEN t.state = 'active'
                             AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = r.oid AND m.member = f.service)
                        THEN 'ServiceMembershipMissing' END,
                   CASE WHEN t.state = 'tombstone'
                             AND EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = r.oid AND m.member = f.service)
                        THEN 'TombstoneUsable' END,
                   CASE WHEN EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = r.oid AND m.member <> f.service
                                        AND m.member IS DISTINCT FROM f.maker) THEN 'ForeignMember' END,
                   CASE WHEN EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setrole = r.oid) THEN 'RoleSettings' END,
                   CASE WHEN EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid
                                        AND d.deptype = 'o') THEN 'OwnsObjects' END,
                   CASE WHEN EXISTS (SELECT FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid
                                        AND d.deptype IN ('a', 'r') AND d.classid <> 'pg_auth_members'::regclass)
                        THEN 'DirectGrants' END]
           END, NULL)
      FROM fixed f
      CROSS JOIN unjucks_ops.tenant t
      LEFT JOIN pg_roles r ON r.rolname = t.role_name
     WHERE t.tenant_id BETWEEN coalesce(p_uid, '00000000-0000-0000-0000-000000000000'::uuid)
                           AND coalesce(p_uid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid);
END $$;

-- Makes the tenant's role usable, or repairs it. One call, one transaction; costs only reads when nothing is to do.
CREATE OR REPLACE FUNCTION unjucks_ops.ensure_tenant(p_uid uuid, p_name text)
RETURNS TABLE (role_name name, state text, repaired text[], remaining text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    report record;
    prefix text;
    marker text;
    existing record;
    fresh bool;
    state_now text;
    before text[] := '{RoleMissing}';
    tenant_role name := unjucks_ops.tenant_role(p_uid);
BEGIN
    IF p_uid IS NULL OR p_name IS NULL OR p_name !~ '^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$' THEN
        RAISE EXCEPTION 'not the UID and name of a Tenant' USING ERRCODE = 'UJ001';
    END IF;
    IF EXISTS (SELECT FROM unjucks_ops.tenant t WHERE t.tenant_id = p_uid) THEN
        SELECT * INTO STRICT report FROM unjucks_ops.tenant_report(p_uid);
        IF report.name = p_name AND report.drift = '{}' OR report.state <> 'active' THEN
            RETURN QUERY SELECT tenant_role, report.state, '{}'::text[], report.drift;
            RETURN;
        END IF;
    END IF;
    SELECT i.prefix INTO STRICT prefix FROM unjucks_ops.installation i;
    marker := 'unjucks:' || prefix || ':' || p_uid;
    -- Without naming a constraint: of two operators at once the second must wait at the role's name as well as at the UID, not fail.
    INSERT INTO unjucks_ops.tenant (tenant_id, name, role_name) VALUES (p_uid, p_name, tenant_role) ON CONFLICT DO NOTHING;
    fresh := FOUND;
    -- The row is the lock of everything below; a second operator waits here.
    SELECT t.state INTO state_now FROM unjucks_ops.tenant t WHERE t.tenant_id = p_uid FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the role % already belongs to another tenant', tenant_role USING ERRCODE = 'UJ002';
    END IF;
    IF NOT fresh THEN
        SELECT r.drift INTO STRICT before FROM unjucks_ops.tenant_report(p_uid) r;
    END IF;
    IF state_now = 'active' THEN
        SELECT r.*, shobj_description(r.oid, 'pg_authid') AS comment INTO existing FROM pg_roles r WHERE r.rolname = tenant_role;
        IF NOT FOUND THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOCREATEDB NOCREATEROLE INHERIT', tenant_role);
            EXECUTE format('COMMENT ON ROLE %I IS %L', tenant_role, marker);
        ELSIF existing.comment IS DISTINCT FROM marker AND (fresh OR existing.comment IS NOT NULL) THEN
            RAISE EXCEPTION 'a role % exists and was not made for this tenant', tenant_role USING ERRCODE = 'UJ002';
        ELSE
            PERFORM unjucks_ops.mend_role(tenant_role, marker);
        END IF;
        IF NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = tenant_role::regrole AND m.roleid = (prefix || '_tenants')::regrole) THEN
            EXECUTE format('GRANT %I TO %I', prefix || '_tenants', tenant_role);
        END IF;
        IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = tenant_role AND (r.rolsuper OR r.rolbypassrls OR r.rolreplication)) THEN
            -- Only a superuser can take these away. Until one does, the service must not be able to act as this role.
            PERFORM unjucks_ops.revoke_service(tenant_role);
        ELSIF NOT EXISTS (SELECT FROM pg_auth_members m
                           WHERE m.roleid = tenant_role::regrole AND m.member = (prefix || '_service')::regrole) THEN
            EXECUTE format('GRANT %I TO %I', tenant_role, prefix || '_service');
        END IF;
        UPDATE unjucks_ops.tenant t SET name = p_name WHERE t.tenant_id = p_uid AND t.name <> p_name;
    END IF;
    RETURN QUERY
        SELECT tenant_role, now_is.state, ARRAY(SELECT unnest(before) EXCEPT SELECT unnest(now_is.drift)), now_is.drift
          FROM unjucks_ops.tenant_report(p_uid) now_is;
END $$;

-- Takes away what a tenant role must not have, as far as CREATEROLE reaches; the rest stays in the report.
CREATE OR REPLACE FUNCTION unjucks_ops.mend_role(p_role name, p_marker text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    prefix text;
    item record;
BEGIN
    IF p_role !~ '^ut_[0-9a-f]{12}$' THEN
        RAISE EXCEPTION 'not a tenant role' USING ERRCODE = 'UJ001';
    END IF;
    SELECT i.prefix INTO STRICT prefix FROM unjucks_ops.installation i;
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = p_role AND r.rolsuper) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = p_role AND (r.rolcanlogin OR r.rolcreatedb OR r.rolcreaterole OR NOT r.rolinherit)) THEN
        EXECUTE format('ALTER ROLE %I NOLOGIN NOCREATEDB NOCREATEROLE INHERIT', p_role);
    END IF;
    IF (SELECT shobj_description(r.oid, 'pg_authid') FROM pg_roles r WHERE r.rolname = p_role) IS DISTINCT FROM p_marker THEN
        EXECUTE format('COMMENT ON ROLE %I IS %L', p_role, p_marker);
    END IF;
    FOR item IN SELECT m.roleid::regrole AS of_role, m.member::regrole AS member, m.grantor, m.roleid = (prefix || '_tenants')::regrole AS ours
                  FROM pg_auth_members m
                 WHERE (m.member = p_role::regrole AND (m.roleid <> (prefix || '_tenants')::regrole OR m.admin_option))
                    OR (m.roleid = p_role::regrole AND m.member <> (prefix || '_service')::regrole
                        AND NOT (m.member = (prefix || '_provisioner')::regrole AND current_setting('server_version_num')::int >= 160000))
    LOOP
        BEGIN
            EXECUTE format('REVOKE %s %s FROM %s', CASE WHEN item.ours THEN 'ADMIN OPTION FOR' ELSE '' END, item.of_role, item.member);
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;  -- a superuser's role, or (from 16 on) somebody else's grant: it stays in the report, for an administrator
        END;
    END LOOP;
    FOR item IN SELECT s.setdatabase, d.datname FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase
                 WHERE s.setrole = p_role::regrole LOOP
        IF item.datname IS NULL THEN
            EXECUTE format('ALTER ROLE %I RESET ALL', p_role);
        ELSE
            EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', p_role, item.datname);
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION unjucks_ops.revoke_service(p_role name) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    service text;
BEGIN
    SELECT i.prefix || '_service' INTO STRICT service FROM unjucks_ops.installation i;
    IF p_role ~ '^ut_[0-9a-f]{12}$'
       AND EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = p_role::regrole AND m.member = service::regrole) THEN
        EXECUTE format('REVOKE %I FROM %I', p_role, service);
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    NULL;  -- a superuser's role; it stays in the report
END $$;

-- Nobody can act as the tenant from now on; its rows stay. A UID that was never seen gets its tombstone too, so that an
-- ensure that arrives late (from an operator that lost its leadership) cannot bring the tenant back.
CREATE OR REPLACE FUNCTION unjucks_ops.retire_tenant(p_uid uuid, p_name text) RETURNS TABLE (role_name name, state text, remaining text[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant_role name := unjucks_ops.tenant_role(p_uid);
    prefix text;
    known record;
BEGIN
    IF p_uid IS NULL THEN
        RAISE EXCEPTION 'not the UID of a Tenant' USING ERRCODE = 'UJ001';
    END IF;
    SELECT i.prefix INTO STRICT prefix FROM unjucks_ops.installation i;
    INSERT INTO unjucks_ops.tenant (tenant_id, name, role_name, state, retired_at)
        VALUES (p_uid, coalesce(nullif(left(p_name, 253), ''), '(never set up)'), tenant_role, 'tombstone', now()) ON CONFLICT DO NOTHING;
    SELECT t.* INTO known FROM unjucks_ops.tenant t WHERE t.tenant_id = p_uid FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the role % already belongs to another tenant', tenant_role USING ERRCODE = 'UJ002';
    END IF;
    IF known.state = 'active' THEN
        UPDATE unjucks_ops.tenant t SET state = 'tombstone', retired_at = now() WHERE t.tenant_id = p_uid;
    END IF;
    IF known.state <> 'dropped' AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname = tenant_role
            AND shobj_description(r.oid, 'pg_authid') = 'unjucks:' || prefix || ':' || p_uid) THEN
        PERFORM unjucks_ops.revoke_service(tenant_role);
        PERFORM unjucks_ops.mend_role(tenant_role, 'unjucks:' || prefix || ':' || p_uid);
    END IF;
    RETURN QUERY SELECT tenant_role, r.state, r.drift FROM unjucks_ops.tenant_report(p_uid) r;
END $$;

-- Removes the role of a retired tenant for good. Its rows were deleted before, by the reaper.
CREATE OR REPLACE FUNCTION unjucks_ops.drop_tenant(p_uid uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known record;
    prefix text;
BEGIN
    SELECT i.prefix INTO STRICT prefix FROM unjucks_ops.installation i;
    SELECT t.* INTO known FROM unjucks_ops.tenant t WHERE t.tenant_id = p_uid FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this tenant is not known' USING ERRCODE = 'UJ003';
    ELSIF known.state = 'active' THEN
        RAISE EXCEPTION 'this tenant is active; retire it first' USING ERRCODE = 'UJ003';
    END IF;
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = known.role_name
                  AND shobj_description(r.oid, 'pg_authid') = 'unjucks:' || prefix || ':' || p_uid) THEN
        EXECUTE format('DROP ROLE %I', known.role_name);
    END IF;
    UPDATE unjucks_ops.tenant t SET state = 'dropped', dropped_at = now(), name = '(dropped)' WHERE t.tenant_id = p_uid AND t.state <> 'dropped';
    RETURN 'dropped';
END $$;

-- For an administrator only (not granted to the service): a retired tenant whose Tenant object came back from a backup.
CREATE OR REPLACE FUNCTION unjucks_ops.restore_tenant(p_uid uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE unjucks_ops.tenant t SET state = 'active', retired_at = NULL WHERE t.tenant_id = p_uid AND t.state = 'tombstone';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no retired tenant with this UID' USING ERRCODE = 'UJ003';
    END IF;
    RETURN 'active';
END $$;

DO $$
DECLARE
    prefix text := current_setting('unjucks.prefix');
    item record;
BEGIN
    -- From nothing: whatever was granted before goes, then exactly this is granted.
    FOR item IN SELECT c.oid::regclass AS target, a.grantee, pg_get_userbyid(a.grantee) AS who
                  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
                 WHERE n.nspname = 'unjucks_ops' AND a.grantee <> c.relowner LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', item.target, CASE item.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(item.who) END);
    END LOOP;
    FOR item IN SELECT f.oid::regprocedure AS target, a.grantee, pg_get_userbyid(a.grantee) AS who
                  FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace,
                       aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
                 WHERE n.nspname = 'unjucks_ops' AND a.grantee <> f.proowner LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', item.target, CASE item.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(item.who) END);
    END LOOP;
    FOR item IN SELECT a.grantee, pg_get_userbyid(a.grantee) AS who FROM pg_namespace n, aclexplode(n.nspacl) a
                 WHERE n.nspname = 'unjucks_ops' AND a.grantee <> n.nspowner LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA unjucks_ops FROM %s', CASE item.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(item.who) END);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA unjucks_ops TO %I, %I, %I, %I',
                   prefix || '_service', prefix || '_owner', prefix || '_tenants', prefix || '_reaper');
    EXECUTE format('GRANT SELECT ON unjucks_ops.installation TO %I, %I', prefix || '_service', prefix || '_owner');
    EXECUTE format('GRANT SELECT (tenant_id, role_name, state) ON unjucks_ops.tenant TO %I, %I',
                   prefix || '_tenants', prefix || '_reaper');
    EXECUTE format('GRANT EXECUTE ON FUNCTION unjucks_ops.ensure_tenant(uuid, text), unjucks_ops.retire_tenant(uuid, text), '
                   'unjucks_ops.drop_tenant(uuid), unjucks_ops.tenant_report(uuid), unjucks_ops.installation_drift() TO %I',
                   prefix || '_service');
    EXECUTE format('GRANT EXECUTE ON FUNCTION unjucks_ops.security_lines(name), unjucks_ops.role_of(text) TO %I, %I',
                   prefix || '_service', prefix || '_owner');
    INSERT INTO unjucks_ops.installation (prefix, version) VALUES (prefix, 1)
        ON CONFLICT (singleton) DO UPDATE SET version = greatest(installation.version, excluded.version), updated_at = now();
    UPDATE unjucks_ops.installation SET baseline = ARRAY(SELECT unjucks_ops.security_lines('unjucks_ops'));
END $$;

-- ---------------------------------------------------------------- as the owner: where migrations are recorded
SELECT pg_catalog.set_config('role', 'none', true);
SELECT pg_catalog.set_config('role', pg_catalog.current_setting('unjucks.prefix') || '_owner', true);

CREATE TABLE IF NOT EXISTS unjucks.schema_migration (
    version int PRIMARY KEY CHECK (version > 0),
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by name NOT NULL DEFAULT session_user
);
COMMENT ON TABLE unjucks.schema_migration IS 'Which migrations ran here. An applied one never changes.';
CREATE TABLE IF NOT EXISTS unjucks.security_baseline (
    singleton bool PRIMARY KEY DEFAULT true CHECK (singleton),
    checksum text NOT NULL,
    server_version int NOT NULL,
    lines text[] NOT NULL
);
COMMENT ON TABLE unjucks.security_baseline IS 'Owners, row security, policies and rights of this schema as security.sql left them.';
DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA unjucks TO %I', current_setting('unjucks.prefix') || '_service');
    EXECUTE format('GRANT SELECT ON unjucks.schema_migration, unjucks.security_baseline TO %I',
                   current_setting('unjucks.prefix') || '_service');
END $$;

-- ---------------------------------------------------------------- as the administrator again: give back what was only lent
SELECT pg_catalog.set_config('role', 'none', true);
DO $$
DECLARE
    prefix text := current_setting('unjucks.prefix');
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('REVOKE %I FROM %I', prefix || '_provisioner', current_user);
        EXECUTE format('REVOKE %I FROM %I', prefix || '_owner', current_user);
    END IF;
END $$;
