create table blog_categories (
    id uuid primary key default gen_random_uuid(),
    title text not null,
    hidden boolean,
    deleted_at timestamptz
);
