-- What inventorytest.Place.Old promises, as sluice wrote it when only migration 00001 existed.
INSERT INTO sales VALUES ('old', 'sku-old', 10, 2, 6, 2, 4, 1000, NULL, NULL, 1800000000000, 90000000000,
    'https://shop.example/{order}', 2.25, 0, 7);
INSERT INTO orders VALUES
    (x'00000000000080008000000000000001', 'old', 'a', 'k', 0, 2, '{"colour":"red"}', NULL, 'held', '', 2, 4102444800000000, 1790000000000001, ''),
    (x'00000000000080008000000000000002', 'old', 'b', '', 0, 4, '', 1790000000000000, 'paid', '', 3, 4102444800000000, 1790000000000002, 'ref'),
    (x'00000000000080008000000000000003', 'old', 'c', '', 1, 9, '', NULL, 'rejected', 'sold_out', 2, NULL, 1790000000000003, '');
INSERT INTO dead_letters VALUES ('m1', x'7b', NULL, 5, 'no order', 1790000000000004);
INSERT INTO refunds_due VALUES (x'00000000000080008000000000000002', 'other', 'already_paid', 1790000000000005);
