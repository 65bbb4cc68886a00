-- Who may do what in schema unjucks_ops of a tenant's own database. Run as <prefix>_owner, after the functions are there.

DO $$
DECLARE
    tenants name := unjucks_ops.role_of('tenants');
    readers name := unjucks_ops.role_of('readers');
    reaper name := unjucks_ops.role_of('reaper');
    service name := unjucks_ops.role_of('service');
    owner name := unjucks_ops.role_of('owner');
    item record;
    target name;
BEGIN
    FOREACH target IN ARRAY ARRAY['tenant', 'gate']::name[] LOOP
        EXECUTE format('ALTER TABLE unjucks_ops.%I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('ALTER TABLE unjucks_ops.%I FORCE ROW LEVEL SECURITY', target);
        FOR item IN SELECT polname FROM pg_policy WHERE polrelid = ('unjucks_ops.' || target)::regclass LOOP
            EXECUTE format('DROP POLICY %I ON unjucks_ops.%I', item.polname, target);
        END LOOP;
        EXECUTE format('CREATE POLICY service ON unjucks_ops.%I TO %I, %I USING (true) WITH CHECK (true)', target, service, owner);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON unjucks_ops.%I TO %I', target, service);
    END LOOP;
    EXECUTE format('CREATE POLICY own_row ON unjucks_ops.tenant FOR SELECT TO %I USING (role_name = current_user AND state = ''active'')', tenants);
    EXECUTE format('CREATE POLICY own_login ON unjucks_ops.tenant FOR SELECT TO %I '
                   'USING (role_name = left(current_user::text, 15)::name AND state = ''active'')', readers);
    FOR item IN SELECT f.oid::regprocedure AS target FROM pg_proc f WHERE f.pronamespace = 'unjucks_ops'::regnamespace LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', item.target);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA unjucks_ops TO %I, %I, %I, %I', service, tenants, readers, reaper);
    EXECUTE format('GRANT SELECT (tenant_id, role_name, state) ON unjucks_ops.tenant TO %I, %I, %I', tenants, readers, reaper);
    EXECUTE format('GRANT SELECT ON unjucks_ops.installation TO %I', service);
    EXECUTE format('GRANT EXECUTE ON FUNCTION unjucks_ops.enter(text, uuid) TO %I', tenants);
    EXECUTE format('GRANT EXECUTE ON FUNCTION unjucks_ops.security_lines(name), unjucks_ops.role_of(text) TO %I', service);
    EXECUTE format('GRANT USAGE ON SCHEMA unjucks TO %I', service);
    EXECUTE format('GRANT SELECT ON unjucks.schema_migration, unjucks.security_baseline TO %I', service);
END $$;
