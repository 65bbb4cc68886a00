create table orders (
    id uuid primary key default gen_random_uuid(),
    number bigint not null unique,
    customer_id uuid not null,
    note text
);
