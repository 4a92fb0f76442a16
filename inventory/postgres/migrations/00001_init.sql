-- Durations are nanoseconds.

-- +goose Up
CREATE TABLE sales (
    id             text        NOT NULL PRIMARY KEY,
    sku            text        NOT NULL,
    stock          bigint      NOT NULL CHECK (stock >= 0),
    topups         bigint      NOT NULL,
    free           bigint      NOT NULL CHECK (free >= 0),
    held           bigint      NOT NULL CHECK (held >= 0),
    sold           bigint      NOT NULL CHECK (sold >= 0),
    per_user_limit bigint      NOT NULL CHECK (per_user_limit >= 1),
    starts_at      timestamptz,      -- NULL: already begun
    ends_at        timestamptz,      -- NULL: open until ended by hand
    payment_window bigint      NOT NULL CHECK (payment_window >= 0),
    max_age        bigint      NOT NULL CHECK (max_age >= 0),
    checkout_url   text        NOT NULL,
    over_admission float8      NOT NULL,
    paused         boolean     NOT NULL,
    version        bigint      NOT NULL CHECK (version >= 1),
    CONSTRAINT sales_balance CHECK (stock + topups = free + held + sold) -- P1, P8
) WITH (fillfactor = 10);            -- few rows, updated all the time: leave them room on their page

CREATE TABLE orders (
    id          uuid        NOT NULL PRIMARY KEY,
    sale        text        NOT NULL, -- may be unknown: such an order is refused, and remembered
    buyer       text        NOT NULL,
    key         text        NOT NULL,
    attempt     bigint      NOT NULL,
    quantity    bigint      NOT NULL,
    attributes  text        NOT NULL, -- JSON, unread: jsonb would refuse some of it
    accepted_at timestamptz,          -- NULL: the door did not know the store's time
    state       text        NOT NULL CHECK (state IN ('held', 'paid', 'expired', 'cancelled', 'rejected', 'failed')),
    reason      text        NOT NULL,
    version     bigint      NOT NULL CHECK (version >= 2),
    pay_by      timestamptz,
    settled_at  timestamptz NOT NULL,
    payment_ref text        NOT NULL DEFAULT '',
    CONSTRAINT orders_quantity CHECK (quantity BETWEEN 1 AND 10000 OR state IN ('rejected', 'failed')),
    CONSTRAINT orders_reason CHECK ((state = 'rejected') = (reason <> '')),
    CONSTRAINT orders_pay_by CHECK (state <> 'held' OR pay_by IS NOT NULL)
);

-- What a buyer owns (P5).
CREATE INDEX orders_owned ON orders (sale, buyer) WHERE state IN ('held', 'paid');
-- What the sweep looks for (P6).
CREATE INDEX orders_due ON orders (pay_by) WHERE state = 'held';

CREATE TABLE dead_letters (
    message  text        NOT NULL PRIMARY KEY,
    body     bytea       NOT NULL,
    order_id uuid,                    -- NULL: the body could not be read
    attempts bigint      NOT NULL,
    error    text        NOT NULL,
    at       timestamptz NOT NULL
);

CREATE TABLE refunds_due (
    order_id    uuid        NOT NULL REFERENCES orders (id),
    payment_ref text        NOT NULL,
    reason      text        NOT NULL CHECK (reason IN ('too_late', 'already_paid')),
    at          timestamptz NOT NULL,
    PRIMARY KEY (order_id, payment_ref)
);

-- For outside checkers: these columns are a published contract.
CREATE VIEW sluice_orders (id, sale, buyer, key, quantity, state, reason, version, settled_at) AS
SELECT id, sale, buyer, key, quantity, state, reason, version, settled_at
FROM orders;

CREATE VIEW sluice_sales (id, stock, topups, free, held, sold, version) AS
SELECT id, stock, topups, free, held, sold, version
FROM sales;

-- +goose Down
DROP VIEW sluice_sales;
DROP VIEW sluice_orders;
DROP TABLE refunds_due;
DROP TABLE dead_letters;
DROP TABLE orders;
DROP TABLE sales;
