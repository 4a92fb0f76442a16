package till

// The rules are the service's: when an order was accepted decides whether the sale was open, an order's buyer may have no more
// than the limit with what the buyer has already, and what is left goes to who came first. A batch is a little stricter than the
// service: behind an order that does not fit any more, no smaller one of the same batch does.

// lockSale takes the hot row.
const lockSale = `SELECT 1 FROM sales WHERE id = $1 FOR UPDATE`

// sellBatch locks the sale, leaves out what is settled already, decides, writes orders, events and counters, and answers whom it
// refused: one statement.
const sellBatch = `WITH sale AS MATERIALIZED (
    SELECT *, clock_timestamp() AS now FROM sales WHERE id = $1 FOR UPDATE
), asked AS (
    SELECT o.*, sale.free, sale.now, CASE
        WHEN o.accepted_at < sale.starts_at - interval '2s' OR o.accepted_at > sale.ends_at + interval '2s' THEN 'sale_closed'
        WHEN sale.max_age <> 0 AND sale.now - o.accepted_at > sale.max_age / 1000 * interval '1us' THEN 'stale'
        WHEN sum(o.quantity) OVER (PARTITION BY o.buyer ORDER BY o.n) + coalesce((SELECT sum(h.quantity) FROM orders AS h
            WHERE h.sale = $1 AND h.buyer = o.buyer AND h.state IN ('held', 'paid')), 0) > sale.per_user_limit THEN 'user_limit'
        ELSE '' END AS reason
    FROM sale, unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[])
        WITH ORDINALITY AS o (id, buyer, key, quantity, accepted_at, n)
    WHERE NOT EXISTS (SELECT 1 FROM orders AS known WHERE known.id = o.id)
), decided AS MATERIALIZED (
    SELECT id, buyer, key, quantity, accepted_at, n, now, CASE WHEN reason = ''
        AND sum(quantity) FILTER (WHERE reason = '') OVER (ORDER BY n) > free THEN 'sold_out' ELSE reason END AS reason
    FROM asked
), ` + write

const sellOne = `WITH sale AS MATERIALIZED (
    SELECT *, clock_timestamp() AS now FROM sales WHERE id = $1
), decided AS MATERIALIZED (
    SELECT $2::uuid AS id, $3::text AS buyer, $4::text AS key, $5::bigint AS quantity, $6::timestamptz AS accepted_at, 1 AS n, now, CASE
        WHEN $6 < sale.starts_at - interval '2s' OR $6 > sale.ends_at + interval '2s' THEN 'sale_closed'
        WHEN sale.max_age <> 0 AND sale.now - $6 > sale.max_age / 1000 * interval '1us' THEN 'stale'
        WHEN $5 + coalesce((SELECT sum(h.quantity) FROM orders AS h
            WHERE h.sale = $1 AND h.buyer = $3 AND h.state IN ('held', 'paid')), 0) > sale.per_user_limit THEN 'user_limit'
        WHEN $5 > sale.free THEN 'sold_out'
        ELSE '' END AS reason
    FROM sale WHERE NOT EXISTS (SELECT 1 FROM orders AS known WHERE known.id = $2)
), ` + write

// write writes what was decided, the events behind everything else that locks.
const write = `facts AS MATERIALIZED (
    SELECT pay_by, pay_by + payment_grace / 1000 * interval '1us' AS release_at,
        '"sale":' || to_json($1::text) AS sale, to_char(pay_by, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS told
    FROM (SELECT payment_grace, now + payment_window / 1000 * interval '1us' AS pay_by FROM sale) AS s
), ordered AS (
    INSERT INTO orders (id, sale, buyer, key, attempt, quantity, attributes, accepted_at, state, reason, version, pay_by, release_at, settled_at)
    SELECT d.id, $1, d.buyer, d.key, 0, d.quantity, '', d.accepted_at, CASE WHEN d.reason = '' THEN 'held' ELSE 'rejected' END,
        d.reason, 2, CASE WHEN d.reason = '' THEN f.pay_by END, CASE WHEN d.reason = '' THEN f.release_at END, d.now
    FROM decided AS d, facts AS f
), moved AS (
    UPDATE sales SET free = sales.free - t.units, held = sales.held + t.units, version = sales.version + 1
    FROM (SELECT sum(quantity) AS units FROM decided WHERE reason = '') AS t WHERE sales.id = $1 AND t.units > 0
), head AS (
    UPDATE events_head SET newest = newest + (SELECT count(*) FROM decided) WHERE id = 1
    RETURNING newest - (SELECT count(*) FROM decided) AS before
), told AS (
    INSERT INTO events (seq, at, later, order_id, body)
    SELECT head.before + row_number() OVER (ORDER BY d.n), d.now, false, d.id,
        '{"version":2,' || f.sale || ',"user":' || to_json(d.buyer) || ',"units":' || d.quantity || CASE WHEN d.reason = ''
            THEN ',"type":"order.held","pay_by":"' || f.told || '"}'
            ELSE ',"type":"order.rejected","reason":"' || d.reason || '"}' END
    FROM decided AS d, facts AS f, head
)
SELECT n, reason FROM decided WHERE reason <> ''`
