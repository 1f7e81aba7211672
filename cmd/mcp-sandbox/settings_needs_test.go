package main

import (
	"cmp"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagSamples are values that no flag has by itself, by its type.
var flagSamples = map[string]string{"bool": "true", "int": "5", "float64": "1", "duration": "7m", "size": "1M"}

// TestNeeds: a flag that has no effect without another is refused without it, and the
// help says so of no flag that is missing from the table.
func TestNeeds(t *testing.T) {
	flags := func() (*settings, *pflag.FlagSet) {
		s, f := &settings{serving: true, transport: "stdio"}, pflag.NewFlagSet("", pflag.ContinueOnError)
		s.register(f)
		return s, f
	}
	bare, known := flags()
	if err := bare.checkNeeds(known); err != nil {
		t.Fatalf("nothing is set: %v", err)
	}
	needy := map[string]bool{}
	for _, n := range needs {
		for _, name := range n.flags {
			needy[name] = true
			s, f := flags()
			fl := f.Lookup(name)
			if fl == nil {
				t.Errorf("there is no --%s", name)
				continue
			}
			refused := func(way string, want bool) {
				t.Helper()
				err := s.checkNeeds(f)
				if got := err != nil && strings.HasPrefix(err.Error(), name+" has no effect without --"); got != want || !want && err != nil {
					t.Errorf("%s without %s, %s: %v", name, n.with, way, err)
				}
			}
			fl.Changed = true
			refused("the default in a file", false)
			s.fromFlags = map[string]bool{name: true}
			refused("the default on the line", fl.Value.Type() != "bool")
			s.fromFlags = nil
			if err := f.Set(name, cmp.Or(flagSamples[fl.Value.Type()], "x")); err != nil {
				t.Fatal(err)
			}
			refused("in a file", true)
			fl.Hidden = true
			refused("in the file of a server, for another command", false)
		}
	}
	says := regexp.MustCompile(`^(with --|on a network:|network transports:)|, on a network$`)
	known.VisitAll(func(fl *pflag.Flag) {
		if says.MatchString(fl.Usage) && !needy[fl.Name] {
			t.Errorf("--%s: help says %q, and it is not in the table", fl.Name, fl.Usage)
		}
	})
}

// TestHiddenFlags: a flag that the help of a command does not show is refused on its line,
// except those of the log.
func TestHiddenFlags(t *testing.T) {
	tried := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, f := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
			f.VisitAll(func(fl *pflag.Flag) {
				if !fl.Hidden || !isTopicFlag(fl.Name) {
					return
				}
				if err := f.Set(fl.Name, cmp.Or(flagSamples[fl.Value.Type()], "x")); err != nil {
					t.Fatal(err)
				}
				tried++
				s := &settings{fromFlags: map[string]bool{fl.Name: true}}
				err := s.checkNeeds(f)
				if told := err != nil && strings.HasPrefix(err.Error(), fl.Name+" has no effect with this command; leave"); told == strings.HasPrefix(fl.Name, "log-") {
					t.Errorf("%s --%s: %v", cmd.CommandPath(), fl.Name, err)
				}
			})
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	root := newRoot()
	for line, names := range map[string]string{
		"exec": "key-file", "doctor": "key-file", "sessions list": "key-file", "sessions get": "key-file", "sessions put": "key-file",
		"review": "protect deny-read deny-secrets",
	} {
		cmd, _, err := root.Find(strings.Fields(line))
		for _, name := range strings.Fields(names) {
			if err != nil || cmd.Flags().Lookup(name).Hidden {
				t.Errorf("%s takes no --%s, which changes what it does: %v", line, name, err)
			}
		}
	}
	walk(root)
	if tried < 100 {
		t.Errorf("only %d flags are hidden", tried)
	}
}
