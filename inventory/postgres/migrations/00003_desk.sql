-- +goose Up
-- How long after its deadline a hold is kept.
ALTER TABLE sales ADD COLUMN payment_grace bigint NOT NULL DEFAULT 0 CHECK (payment_grace >= 0);

ALTER TABLE orders
    ADD COLUMN release_at timestamptz, -- when a hold ends: pay_by, which is what the buyer is told, and the grace
    ADD COLUMN replay_of  uuid;        -- the failed order that this one was made from
UPDATE orders SET release_at = pay_by WHERE pay_by IS NOT NULL;
ALTER TABLE orders
    ADD CONSTRAINT orders_release_at CHECK (release_at >= pay_by AND (state <> 'held' OR release_at IS NOT NULL));

-- What the sweep looks for, sale by sale (P6), and when the first hold of a sale ends.
DROP INDEX orders_due;
CREATE INDEX orders_due ON orders (sale, release_at) WHERE state = 'held';
-- What a buyer owns (P5), and all orders of a buyer.
DROP INDEX orders_owned;
CREATE INDEX orders_owned ON orders (buyer, sale, state);

-- Letters and refunds get numbers, which are never given out twice.
ALTER TABLE dead_letters
    ADD COLUMN id          bigint NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    ADD COLUMN replayed_as uuid;       -- NULL: not replayed
ALTER TABLE refunds_due
    ADD COLUMN id       bigint NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    ADD COLUMN given_at timestamptz;   -- NULL: still due
CREATE INDEX refunds_open ON refunds_due (id) WHERE given_at IS NULL;

-- +goose Down
ALTER TABLE refunds_due DROP COLUMN id, DROP COLUMN given_at;
ALTER TABLE dead_letters DROP COLUMN id, DROP COLUMN replayed_as;
DROP INDEX orders_owned;
CREATE INDEX orders_owned ON orders (sale, buyer) WHERE state IN ('held', 'paid');
DROP INDEX orders_due;
CREATE INDEX orders_due ON orders (pay_by) WHERE state = 'held';
ALTER TABLE orders DROP COLUMN release_at, DROP COLUMN replay_of;
ALTER TABLE sales DROP COLUMN payment_grace;
