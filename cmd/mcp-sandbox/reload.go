package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// reloadOnSIGHUP gives SIGHUP its meaning. A network server never ends of it: it
// reloads its network rules and what more names, and says so when it has nothing
// to reload. The others have a terminal or a client that can go away, so there it
// ends them, except where a configuration file has rules to reload.
func (s *settings) reloadOnSIGHUP(ctx context.Context, more ...func()) (_ context.Context, stop func()) {
	reloads := more
	if s.gateway != nil && s.configFile != "" {
		reloads = append([]func(){s.reloadRules}, more...)
	}
	if len(reloads) == 0 && !s.remote() {
		return signal.NotifyContext(ctx, syscall.SIGHUP)
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-hup:
				if len(reloads) == 0 {
					s.session.Log.Warn("SIGHUP ignored: there is no token file, no certificate and no --config with network rules to reload; other settings need a restart")
				}
				for _, reload := range reloads {
					reload()
				}
			case <-done:
				return
			}
		}
	})
	return ctx, func() {
		signal.Stop(hup)
		close(done)
		wg.Wait()
	}
}

// reloadRules reads the network rules of the configuration file again. A file that
// is wrong closes the network until it is right: rules that somebody wanted to
// narrow must not stay open because of a slip.
func (s *settings) reloadRules() {
	var fresh settings
	f := pflag.NewFlagSet("reload", pflag.ContinueOnError)
	fresh.register(f)
	err := errors.Join(overlayEnviron(f, os.Environ()), overlayFile(f, s.configFile))
	rules := 0
	if err == nil {
		// What was given as a flag stays: only the file can have changed.
		n := fresh.network
		if s.fromFlags["allow-host"] {
			n.Allow = s.network.Allow
		}
		if s.fromFlags["deny-host"] {
			n.Deny = s.network.Deny
		}
		if s.fromFlags["allow-preset"] {
			n.Presets = s.network.Presets
		}
		rules, err = s.gateway.SetRules(n.Rules)
	} else {
		s.gateway.Shut()
	}
	if err != nil {
		s.session.Log.Error("the network is closed: the configuration cannot be read", "error", err)
		return
	}
	s.session.Log.Info("network rules reloaded", "rules", rules, "at", time.Now().UTC().Format(time.RFC3339))
}
