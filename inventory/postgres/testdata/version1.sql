-- What inventorytest.Place.Old promises, as sluice wrote it when only migration 00001 existed.
INSERT INTO sales VALUES ('old', 'sku-old', 10, 2, 6, 2, 4, 1000, NULL, NULL, 1800000000000, 90000000000,
    'https://shop.example/{order}', 2.25, false, 7);
INSERT INTO orders VALUES
    ('00000000-0000-8000-8000-000000000001', 'old', 'a', 'k', 0, 2, '{"colour":"red"}', NULL, 'held', '', 2, '2100-01-01Z', '2026-09-21T13:33:20.000001Z', ''),
    ('00000000-0000-8000-8000-000000000002', 'old', 'b', '', 0, 4, '', '2026-09-21Z', 'paid', '', 3, '2100-01-01Z', '2026-09-21T13:33:20.000002Z', 'ref'),
    ('00000000-0000-8000-8000-000000000003', 'old', 'c', '', 1, 9, '', NULL, 'rejected', 'sold_out', 2, NULL, '2026-09-21T13:33:20.000003Z', '');
INSERT INTO dead_letters VALUES ('m1', '\x7b', NULL, 5, 'no order', '2026-09-21Z');
INSERT INTO refunds_due VALUES ('00000000-0000-8000-8000-000000000002', 'other', 'already_paid', '2026-09-21Z');
