package config

import (
	"slices"
	"strings"
	"testing"
)

func TestLoad_WhatBrowsersNeed(t *testing.T) {
	for _, c := range []struct {
		args  []string
		wrong string // what the error says; empty: none
	}{
		{[]string{"--cors-origins", "https://shop.example, http://127.0.0.1:3000,http://[::1]:5173"}, ""},
		{[]string{"--cors-origins", "*"}, ""},
		{[]string{"--cors-origins", ""}, ""},
		{[]string{"--cors-origins", "*,https://shop.example"}, "alone"},
		{[]string{"--cors-origins", "https://shop.example/"}, "without a path"},
		{[]string{"--cors-origins", "https://shop.example/pay"}, "without a path"},
		{[]string{"--cors-origins", "shop.example"}, "scheme://host"},
		{[]string{"--cors-origins", "ftp://shop.example"}, "scheme://host"},
		{[]string{"--cors-origins", "https://u:p@shop.example"}, "scheme://host"},
		{[]string{"--cors-origins", "https://shop.example?x"}, "scheme://host"},
		{[]string{"--cors-origins", "https://shop.example:443"}, "own port"},
		{[]string{"--cors-origins", "https://Shop.example"}, "lower-case"},
		{[]string{"--cors-origins", "https://*.shop.example"}, "no pattern"},
		{[]string{"--cors-origins", "null"}, "scheme://host"},
		{[]string{"--cors-origins", strings.Repeat("https://a.example,", 101)}, "at most 100"},
		{[]string{"--base-path", "/sluice"}, ""},
		{[]string{"--base-path", "/shop/spring-2027"}, ""},
		{[]string{"--base-path", "sluice"}, "such as /sluice"},
		{[]string{"--base-path", "/"}, "such as /sluice"},
		{[]string{"--base-path", "/sluice/"}, "such as /sluice"},
		{[]string{"--base-path", "/a//b"}, "such as /sluice"},
		{[]string{"--base-path", "/../b"}, "such as /sluice"},
		{[]string{"--base-path", `/a"b`}, "such as /sluice"},
		{[]string{"--base-path", "/" + strings.Repeat("a", 64)}, "at most 64"},
		{[]string{"--waiting-page", "https://shop.example/queue?order={order}&sale={sale}"}, ""},
		{[]string{"--waiting-page", "/queue/{order}"}, ""},
		{[]string{"--waiting-page", "https://shop.example/queue"}, "want {order}"},
		{[]string{"--waiting-page", "https://shop.example/{order}/{reason}"}, "no other names"},
		{[]string{"--waiting-page", "https://{order}.shop.example/"}, "must not choose the host"},
		{[]string{"--waiting-page", "javascript:alert({order})"}, "https://"},
		{[]string{"--waiting-page", "//shop.example/{order}"}, "https://"},
		{[]string{"--waiting-page", "queue/{order}"}, "https://"},
		{[]string{"--busy-page", "https://shop.example/busy"}, ""},
		{[]string{"--busy-page", "https://shop.example/busy?why={reason}&sale={sale}"}, ""},
		{[]string{"--busy-page", "https://{sale}/busy"}, "must not choose the host"},
		{[]string{"--busy-page", "/busy?order={order}"}, "no other names"},
	} {
		_, err := load(t, Keys(), c.args...)
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%q: error %v; want %q", c.args, err, c.wrong)
		}
	}
}

func TestLoad_TakesAListOfTheFileWhereOneIsWanted(t *testing.T) {
	want := []string{"https://shop.example", "http://127.0.0.1:3000"}
	for _, text := range []string{
		"cors-origins:\n  - https://shop.example\n  - http://127.0.0.1:3000\n",
		"cors-origins: https://shop.example, http://127.0.0.1:3000\n",
	} {
		c, err := load(t, Keys(), "--config", file(t, text))
		if err != nil || !slices.Equal(c.CORSOrigins, want) {
			t.Errorf("%q: %q, %v", text, c.CORSOrigins, err)
		}
	}
	for _, text := range []string{"metrics: [a, b]\n", "cors-origins: [nowhere]\n", "cors-origins: {a: b}\n"} {
		if c, err := load(t, Keys(), "--config", file(t, text)); err == nil {
			t.Errorf("%q is taken: %+v", text, c)
		}
	}
}
