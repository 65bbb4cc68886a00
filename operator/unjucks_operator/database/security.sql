-- Who may do what in schema unjucks. Run as <prefix>_owner after the migrations, and again whenever the sweep finds a difference.
-- It starts from nothing: every policy and every right that is not written here goes. One transaction, so there is no moment
-- without row security. A migration that adds a table adds its lines here.

DO $$
DECLARE
    tenants name := unjucks_ops.role_of('tenants');
    reaper name := unjucks_ops.role_of('reaper');
    service name := unjucks_ops.role_of('service');
    readers name := unjucks_ops.role_of('readers');
    -- Inside (SELECT ...) it is evaluated once for each statement, and the key's index is used.
    own text := '(SELECT t.tenant_id FROM unjucks_ops.tenant t WHERE t.role_name = current_user AND t.state = ''active'')';
    -- A tenant's login is its role's name and two characters more.
    logins text := '(SELECT t.tenant_id FROM unjucks_ops.tenant t WHERE t.role_name = left(current_user::text, 15)::name AND t.state = ''active'')';
    item record;
    target name;
BEGIN
    -- At once and in the order in which the reaper takes them (tenants.py), so that the two never wait for each other in a circle.
    LOCK TABLE unjucks.generation_run, unjucks.catalog, unjucks.artifact IN ACCESS EXCLUSIVE MODE;
    FOR item IN SELECT p.polname, c.oid::regclass AS target FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
                 WHERE c.relnamespace = 'unjucks'::regnamespace LOOP
        EXECUTE format('DROP POLICY %I ON %s', item.polname, item.target);
    END LOOP;
    FOR item IN SELECT g.tgname, c.oid::regclass AS target FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
                 WHERE c.relnamespace = 'unjucks'::regnamespace AND NOT g.tgisinternal LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', item.tgname, item.target);
    END LOOP;
    FOR item IN SELECT c.oid::regclass AS target, a.attname, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END AS who
                  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid, aclexplode(a.attacl) x
                 WHERE c.relnamespace = 'unjucks'::regnamespace LOOP
        EXECUTE format('REVOKE ALL (%I) ON %s FROM %s', item.attname, item.target, item.who);
    END LOOP;
    FOR item IN SELECT c.oid::regclass AS target, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END AS who
                  FROM pg_class c, aclexplode(c.relacl) x
                 WHERE c.relnamespace = 'unjucks'::regnamespace AND x.grantee <> c.relowner LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', item.target, item.who);
    END LOOP;
    FOR item IN SELECT f.oid::regprocedure AS target, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END AS who
                  FROM pg_proc f, aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) x
                 WHERE f.pronamespace = 'unjucks'::regnamespace AND x.grantee <> f.proowner LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s', item.target, item.who);
    END LOOP;
    FOR item IN SELECT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END AS who
                  FROM pg_namespace n, aclexplode(n.nspacl) x WHERE n.nspname = 'unjucks' AND x.grantee <> n.nspowner LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA unjucks FROM %s', item.who);
    END LOOP;

    EXECUTE format('GRANT USAGE ON SCHEMA unjucks TO %I, %I, %I, %I', tenants, reaper, service, readers);
    EXECUTE format('GRANT SELECT ON unjucks.schema_migration, unjucks.security_baseline TO %I', service);
    FOREACH target IN ARRAY ARRAY['artifact', 'catalog', 'generation_run']::name[] LOOP
        EXECUTE format('ALTER TABLE unjucks.%I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('ALTER TABLE unjucks.%I FORCE ROW LEVEL SECURITY', target);
        EXECUTE format('CREATE POLICY tenant_rows ON unjucks.%I TO %I USING (tenant_id = %s) WITH CHECK (tenant_id = %s)',
                       target, tenants, own, own);
        EXECUTE format('CREATE POLICY login_rows ON unjucks.%I FOR SELECT TO %I USING (tenant_id = %s)', target, readers, logins);
        EXECUTE format('CREATE POLICY retired_rows_select ON unjucks.%I FOR SELECT TO %I '
                       'USING (tenant_id IN (SELECT t.tenant_id FROM unjucks_ops.tenant t WHERE t.state <> ''active''))', target, reaper);
        EXECUTE format('CREATE POLICY retired_rows_delete ON unjucks.%I FOR DELETE TO %I '
                       'USING (tenant_id IN (SELECT t.tenant_id FROM unjucks_ops.tenant t WHERE t.state <> ''active''))', target, reaper);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON unjucks.%I TO %I', target, tenants);
        EXECUTE format('GRANT SELECT, DELETE ON unjucks.%I TO %I', target, reaper);
        EXECUTE format('GRANT SELECT ON unjucks.%I TO %I', target, readers);
    END LOOP;
END $$;
