create index on users (id);
