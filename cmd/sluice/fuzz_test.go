package main

import (
	"strings"
	"testing"
)

// Whatever is in the file of tokens, every operator has a name and a token of his own, or there is an error.
func FuzzOperators(f *testing.F) {
	f.Add("a-token-of-operators")
	f.Add("a token-of-operator-a\nb token-of-operator-b\n")
	f.Add("a token-of-operator-a\n\n a token-of-operator-a")
	f.Fuzz(func(t *testing.T, text string) {
		operators, err := parseOperators(strings.TrimSpace(text))
		if err != nil {
			return
		}
		names, tokens := map[string]bool{}, map[string]bool{}
		for _, o := range operators {
			names[o.Name], tokens[o.Token] = true, true
			if o.Name == "" || len(o.Token) < minToken {
				t.Errorf("%q gives %+v", text, o)
			}
		}
		if len(names) != len(operators) || len(tokens) != len(operators) || len(operators) > maxOperators || len(operators) == 0 {
			t.Errorf("%q gives %+v", text, operators)
		}
	})
}

// Whatever a message has in it, no name and password before a host leaves the program by its last words.
func FuzzDiscreet(f *testing.F) {
	f.Add("unknown command ", "u", "hunter2", "h/db")
	f.Fuzz(func(t *testing.T, before, user, password, host string) {
		if password == "" || strings.ContainsAny(user+password, " \t\r\n\v\f\"'") || strings.Contains(before+host+"…postgres://@:", password) {
			return
		}
		if told := discreet(before + " \"postgres://" + user + ":" + password + "@" + host + "\""); strings.Contains(told, password) {
			t.Errorf("%q tells %q", told, password)
		}
	})
}
