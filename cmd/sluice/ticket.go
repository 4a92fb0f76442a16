package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sluice"
	"sluice/config"
	"sluice/ticket"
)

func ticketCommand() *cobra.Command {
	cmd := group("ticket", "Make keys of buyers' tickets, and issue tickets by hand",
		"  sluice ticket key shop.key\n  sluice ticket issue --ticket-key shop.key --buyer u1")
	cmd.AddCommand(ticketIssueCommand(), ticketKeyCommand())
	return cmd
}

func ticketIssueCommand() *cobra.Command {
	var (
		claims ticket.Claims
		valid  time.Duration
	)
	cmd := &cobra.Command{
		Use: "issue", Short: "Print a ticket for a buyer", Args: usageArgs(cobra.NoArgs),
		Example: "  sluice ticket issue --ticket-key shop.key --buyer u1\n" +
			"  sluice ticket issue --ticket-key shop.key --buyer u1 --class members --sale spring --valid 2h",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(c.Flags())
			if err != nil {
				return err
			}
			if valid < time.Second {
				return &usageError{fmt.Errorf("valid %v: want 1s or more, such as 30m", valid)}
			}
			claims.Issuer, claims.Audience, claims.BuyerClaim = cfg.TicketIssuer, cfg.TicketAudience, cfg.TicketBuyer
			claims.Issued = time.Now()
			claims.Expires = claims.Issued.Add(valid)
			return printTicket(cfg.TicketKey, claims)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&claims.Buyer, "buyer", "", "the user of every order that is placed with the ticket")
	f.StringVar(&claims.Class, "class", "", "the buyer's class, such as members; empty: none")
	f.StringVar(&claims.Sale, "sale", "", "the only sale that the ticket buys in; empty: any")
	f.DurationVar(&valid, "valid", 30*time.Minute, "how long the ticket is good")
	config.Flags(f, "ticket-key", "ticket-issuer", "ticket-audience", "ticket-buyer-claim")
	f.Lookup("ticket-key").Usage = "file with the key to sign with: an Ed25519 private key in PEM, or an HS256 secret (env " + config.EnvName("ticket-key") + ")"
	return cmd
}

func printTicket(file string, claims ticket.Claims) error {
	if file == "" {
		return &usageError{errors.New("ticket-key: it is missing; want the file with the key to sign with (sluice ticket key makes one)")}
	}
	key, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("ticket-key: %w", err)
	}
	token, err := ticket.Issue(key, claims)
	switch {
	case err == nil:
		fmt.Println(token)
		return nil
	case sluice.RefusalOf(err) == sluice.BadRequest:
		return &usageError{err}
	}
	return &usageError{fmt.Errorf("ticket-key %s: %w", file, err)}
}

func ticketKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "key FILE", Short: "Make a pair of keys: FILE signs tickets and stays with the shop, FILE.pub checks them at the doors",
		Example: "  sluice ticket key shop.key", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			private, public, err := ticket.MakeKeys()
			if err != nil {
				return fmt.Errorf("make ticket keys: %w", err)
			}
			file := args[0]
			if err := writeNew(file, private, 0o600); err != nil {
				return fmt.Errorf("make ticket keys, overwriting none: %w", err)
			}
			if err := writeNew(file+".pub", public, 0o644); err != nil {
				return fmt.Errorf("make ticket keys, overwriting none: %w", errors.Join(err, os.Remove(file))) // alone, the private key is no use
			}
			fmt.Printf("%s signs tickets: keep it secret\n%s.pub checks them: give it to the doors (--ticket-key)\n", file, file)
			return nil
		},
	}
}

// writeNew writes a file that must not exist yet. It leaves nothing behind if it can't.
func writeNew(name string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
