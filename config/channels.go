package config

import (
	"fmt"
	"slices"
	"strings"
)

const (
	maxChannels     = 32
	maxChannelBytes = 64 // nsqd's, what follows included
	ephemeral       = "#ephemeral"
)

// channels takes a list of names as nsqd takes them.
func channels(field func(*Config) *[]string) func(*Config, string) error {
	return func(c *Config, text string) error {
		var list []string
		for name := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' }) {
			if !validChannel(name) {
				return fmt.Errorf("%q: want names between commas, each of a-z, A-Z, 0-9, '.', '-' and '_', with #ephemeral at its end or not, of at most %d bytes in all",
					name, maxChannelBytes)
			}
			if slices.Contains(list, name) {
				return fmt.Errorf("%q is given twice", name)
			}
			list = append(list, name)
		}
		if len(list) > maxChannels {
			return fmt.Errorf("%d channels; want at most %d", len(list), maxChannels)
		}
		*field(c) = list
		return nil
	}
}

func validChannel(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
	plain := strings.TrimSuffix(name, ephemeral)
	return plain != "" && len(name) <= maxChannelBytes && strings.Trim(plain, letters) == ""
}
