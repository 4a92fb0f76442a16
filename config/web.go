package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// What browsers and proxies need of a door.

const (
	maxOrigins  = 100
	maxBasePath = 64
	maxPageURL  = 2048
)

// setOrigins reads origins as browsers send them: another spelling would never match.
func setOrigins(c *Config, text string) error {
	c.CORSOrigins = nil
	for origin := range strings.SplitSeq(text, ",") {
		origin = strings.TrimSpace(origin)
		if origin == "" {
			continue
		}
		if err := checkOrigin(origin); err != nil {
			return err
		}
		c.CORSOrigins = append(c.CORSOrigins, origin)
	}
	if len(c.CORSOrigins) > maxOrigins {
		return fmt.Errorf("%d origins; want at most %d", len(c.CORSOrigins), maxOrigins)
	}
	if len(c.CORSOrigins) > 1 && slices.Contains(c.CORSOrigins, "*") {
		return errors.New("* is for all: want it alone")
	}
	return nil
}

func checkOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.Scheme+"://"+u.Host != origin {
		return fmt.Errorf("%q: want scheme://host or scheme://host:port, without a path, such as https://shop.example", origin)
	}
	if port := u.Port(); u.Host != u.Hostname() && (port == "" || port == map[string]string{"http": "80", "https": "443"}[u.Scheme]) && !strings.HasSuffix(u.Host, "]") {
		return fmt.Errorf("%q: browsers leave out the scheme's own port; so must you", origin)
	}
	if strings.ContainsFunc(u.Host, func(r rune) bool { return r > '~' || (r >= 'A' && r <= 'Z') || strings.ContainsRune("*{}%", r) }) {
		return fmt.Errorf("%q: want the host in lower-case ASCII (punycode), as browsers send it, and no pattern", origin)
	}
	return nil
}

// setBasePath takes what needs no escape anywhere: in a path, in JSON and in HTML.
func setBasePath(c *Config, text string) error {
	c.BasePath = ""
	if text == "" {
		return nil
	}
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~", r)
	}
	segments := strings.Split(text, "/")
	for i, s := range segments {
		if (s == "") != (i == 0) || s == "." || s == ".." || strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
			return fmt.Errorf("want a path such as /sluice, without a slash at its end: letters, digits and -._~ between slashes")
		}
	}
	if len(text) > maxBasePath {
		return fmt.Errorf("it has %d bytes; want at most %d", len(text), maxBasePath)
	}
	c.BasePath = text
	return nil
}

// page reads the template of a URL, of another site or of the door's own, in which the names may stand.
func page(field func(*Config) *string, needed bool, names ...string) func(*Config, string) error {
	var fill []string
	for _, name := range names {
		fill = append(fill, name, "x")
	}
	filled := strings.NewReplacer(fill...)
	return func(c *Config, text string) error {
		*field(c) = text
		if text == "" {
			return nil
		}
		example := filled.Replace(text)
		u, err := url.Parse(example)
		site := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
		path := err == nil && u.Scheme == "" && u.Host == "" && strings.HasPrefix(text, "/")
		switch {
		case !site && !path || len(text) > maxPageURL || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }):
			return fmt.Errorf("want a URL that begins with https:// or http://, or a path that begins with /, of at most %d ASCII characters", maxPageURL)
		case strings.ContainsAny(example, "{}"):
			return fmt.Errorf("want no other names in it than %s", strings.Join(names, ", "))
		case site && !strings.HasPrefix(text, u.Scheme+"://"+u.Host):
			return fmt.Errorf("a buyer must not choose the host: want %s after it", strings.Join(names, ", "))
		case needed && !strings.Contains(text, names[0]):
			return fmt.Errorf("want %s in it: the page can't know the order otherwise", names[0])
		}
		return nil
	}
}
