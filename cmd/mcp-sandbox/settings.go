package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"

	"mcp-sandbox/confine"
	"mcp-sandbox/library"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
	"mcp-sandbox/tools"
)

// settings are the flags of the server. The flag set is the one list of what
// can be configured: the environment (MCP_SANDBOX_ROOT for --root) and the TOML
// file use the same names and go through the same parsing.
type settings struct {
	configFile   string
	session      session.Config
	tools        tools.Options
	env          []string
	gitUser      string
	maxYieldMS   int
	noBaseline   bool
	transport    string
	http         httpSettings
	observe      observeSettings
	sessionFlags sessionSettings
	store        storeSettings
	network      networkSettings
	limits       string
	// fromFlags are the settings that were given as flags.
	fromFlags map[string]bool
	// serving is set for a server, see need; records for what opens the audit log.
	serving, records bool
	// gateway is set with --network allow.
	gateway *library.Gateway
}

const envPrefix = "MCP_SANDBOX_"

func (s *settings) register(f *pflag.FlagSet) {
	f.SetNormalizeFunc(normalName)
	f.StringVar(&s.configFile, "config", "", "TOML file with the same keys as these flags")
	f.StringVar(&s.session.Root, "root", "", "workspace directory, kept on exit (default: a temporary one, deleted on exit)")
	f.StringVar(&s.session.WorkspaceAlias, "workspace-alias", "", "second path of the workspace, such as /workspace: for file tools, and for commands at the levels with namespaces")
	f.StringVar(&s.session.StateDir, "state-dir", "", "the server's own directory (default: $XDG_STATE_HOME/mcp-sandbox)")
	f.StringVar(&s.session.Shell, "shell", "", "shell that runs commands: a program name or an absolute path (default: bash where it exists, else sh)")
	f.StringVar(&s.session.Home, "home", "", "HOME of commands: workspace or private (default: workspace if that is temporary, otherwise private)")
	f.BoolVar(&s.session.NoCache, "no-cache", false, "start every session without the caches of package managers and compilers that the last one left")
	f.Var((*size)(&s.session.CacheLimit), "limit-cache", "size of all kept caches together; those used longest ago are removed first (default 10G)")
	f.StringVar((*string)(&s.session.Level), "confine", "auto", "auto, namespaces, namespaces-noproc (the host's /proc), landlock, seatbelt or none")
	f.StringVar((*string)(&s.session.MinLevel), "min-confinement", "", "refuse to run below this level (default: any but none, or the one named by --confine)")
	f.BoolVar(&s.session.AllowRoot, "allow-root", false, "run commands as root where the server is root and the workspace belongs to root")
	f.StringVar((*string)(&s.session.Network), "network", "loopback", "none, loopback, allow (see --allow-host) or host")
	f.StringArrayVar(&s.session.Read, "read", nil, "host path commands and file tools may read")
	f.StringArrayVar(&s.session.Write, "write", nil, "host path commands and file tools may change")
	f.StringArrayVar(&s.session.DenyRead, "deny-read", nil, "path or pattern (**/.env, *.pem) that commands, file tools and snapshots can never read, even inside the workspace; a relative one starts at --root")
	f.BoolVar(&s.session.DenySecrets, "deny-secrets", false, "hide the usual secrets: .env* except .env.example, private keys, credentials files")
	f.StringArrayVar(&s.session.Protect, "protect", nil, "workspace path that may not be changed, in addition to the default ones")
	f.StringVar(&s.gitUser, "git-user", "", "author of the commits of a session: \"Name <mail>\" (default: user.name and user.email of the server's user)")
	f.StringArrayVar(&s.env, "env", nil, "NAME=VALUE for commands, or NAME to pass the server's own value")
	f.BoolVar(&s.session.ReadOnlyRoot, "read-only", false, "keep --root as it is: commands run, and neither they nor tools can write to it")
	f.BoolVar(&s.tools.ReadOnly, "read-only-tools", false, "offer only tools that change nothing, so no shell")
	f.StringSliceVar(&s.tools.Toolsets, "toolset", nil, "offer only these: core, files, process, snapshot, session")
	f.StringVar(&s.tools.Encoding, "encoding", "o200k_base", "tokenizer that cuts output: o200k_base or cl100k_base")
	f.IntVar(&s.tools.MaxOutputTokens, "max-output-tokens", 0, "most tokens a call may ask for (default: no cap)")
	f.IntVar(&s.maxYieldMS, "max-yield-ms", 45000, "longest a call waits for a command")
	f.StringVar(&s.session.OnCancel, "on-cancel", "kill", "what a cancelled call does to its command: kill or leave")
	f.StringVar(&s.tools.Structured, "structured", "auto", "structuredContent in addition to text: on, off, or auto: for clients known to gain by it (docs/clients.md)")
	f.IntVar(&s.session.Limits.Procs, "limit-procs", 0, "processes of a session (default 1024)")
	f.Var((*size)(&s.session.Limits.FileSize), "limit-file-size", "largest file that commands and file tools may write (default 4G)")
	f.IntVar(&s.session.Limits.OpenFiles, "limit-open-files", 0, "open files of a process (default 4096)")
	f.Var((*size)(&s.session.Limits.Tmp), "limit-tmp", "size of the private /tmp, at the levels with namespaces (default 1G)")
	f.Var((*size)(&s.session.Limits.Memory), "limit-memory", "memory of a session")
	f.Float64Var(&s.session.Limits.CPU, "limit-cpu", 0, "processors of a session, such as 1.5 (default: all, shared evenly between sessions)")
	f.StringVar(&s.limits, "limits", "strict", "strict: refuse to start where a limit that was set cannot be enforced (memory and processors need a control group); best-effort: start without it")
	registerHTTP(f, s)
	registerStore(f, s)
	registerSession(f, s)
	registerNetwork(f, &s.network)
	registerObserve(f, &s.observe)
}

// load fills what no flag has set, from the environment and then from the file,
// and checks the whole. Unknown keys and bad values are errors that name them.
func (s *settings) load(f *pflag.FlagSet) error {
	s.fromFlags = map[string]bool{}
	// Not Visit: that knows what was parsed into f alone, and a subcommand has a set of
	// its own with the same flags.
	f.VisitAll(func(fl *pflag.Flag) { s.fromFlags[fl.Name] = fl.Changed })
	if err := overlayEnviron(f, os.Environ()); err != nil {
		return err
	}
	if s.configFile != "" {
		if err := overlayFile(f, s.configFile); err != nil {
			return err
		}
		s.session.SettingsFile = s.configFile
	}
	if err := s.checkNeeds(f); err != nil {
		return err
	}
	if err := s.loadHTTP(); err != nil {
		return err
	}
	if err := confine.CheckLevels(sandbox.Level(s.session.Level), sandbox.Level(s.session.MinLevel)); err != nil {
		return err
	}
	if err := s.loadLimits(f); err != nil {
		return err
	}
	if s.maxYieldMS < 250 || s.maxYieldMS > 600_000 {
		return badSetting("max-yield-ms is %d; use 250 to 600000 (most clients cut a call at 60000)", s.maxYieldMS)
	}
	s.session.MaxYield = time.Duration(s.maxYieldMS) * time.Millisecond
	s.tools.MaxYield = s.session.MaxYield
	s.tools.ReadOnlyRoot = s.session.ReadOnlyRoot
	s.session.ReadOnly = s.tools.ReadOnly || s.session.ReadOnlyRoot
	s.session.Path = os.Getenv("PATH")
	for _, e := range s.env {
		name, value, has := strings.Cut(e, "=")
		if !has {
			if value, has = os.LookupEnv(name); !has {
				return badSetting("env names %q, which the server's environment does not have; write NAME=VALUE or set it", name)
			}
		}
		s.session.Env = append(s.session.Env, name+"="+value)
	}
	if err := s.loadGitUser(); err != nil {
		return err
	}
	log, err := s.observe.logger()
	if err != nil {
		return err
	}
	s.session.Log, s.tools.Log = log, log
	s.tools.Version, s.tools.Metrics = version(), s.observe.metrics()
	s.session.Denied = s.tools.Metrics.Denied // of a nil one too
	if s.tools.Spans, err = s.observe.tracing(s.tools.Metrics, log); err != nil {
		return err
	}
	if s.session.Network == "allow" {
		g, err := library.NewGateway(s.network.Rules, log)
		if err != nil {
			return err
		}
		g.Denied = s.tools.Metrics.Denied // of a nil one too
		s.gateway = g
	}
	return s.loadSession()
}

func overlayEnviron(f *pflag.FlagSet, environ []string) error {
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		key, ours := strings.CutPrefix(name, envPrefix)
		if !ours || strings.HasPrefix(key, "TEST_") {
			continue
		}
		flag := f.Lookup(strings.ReplaceAll(strings.ToLower(key), "_", "-"))
		if flag == nil {
			return badSetting("unknown environment variable %s; see mcp-sandbox serve --help", name)
		}
		// Empty is unset: a client's configuration form passes empty fields.
		if flag.Changed || value == "" {
			continue
		}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			sep := ","
			// A comma is part of many values, so this one list is a line each.
			if flag.Name == "env" {
				sep = "\n"
			}
			values := slices.DeleteFunc(strings.Split(value, sep), func(s string) bool { return s == "" })
			if err := list.Replace(values); err != nil {
				return badSetting("%s is %q, which is not valid (%v); correct it", name, value, err)
			}
			flag.Changed = true
			continue
		}
		if err := f.Set(flag.Name, value); err != nil {
			return badSetting("%s is %q; %s", name, value, formOf(flag, err))
		}
	}
	return nil
}

func overlayFile(f *pflag.FlagSet, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return badSetting("the configuration %q cannot be read (%v); check the path and its rights", path, err)
	}
	defer file.Close()
	return overlayTOML(f, file)
}

func overlayTOML(f *pflag.FlagSet, r io.Reader) error {
	var keys map[string]any
	if err := toml.NewDecoder(r).Decode(&keys); err != nil {
		return badSetting("the configuration is not valid TOML (%v); correct it", err)
	}
	for key, value := range keys {
		flag := f.Lookup(key)
		if flag == nil || key == "config" {
			return badSetting("the configuration has the unknown key %q; see mcp-sandbox serve --help", key)
		}
		if flag.Changed {
			continue
		}
		if err := setFromTOML(f, flag, value); err != nil {
			return badSetting("the configuration's %s is %v; %s", key, value, formOf(flag, err))
		}
	}
	return nil
}

func setFromTOML(f *pflag.FlagSet, flag *pflag.Flag, value any) error {
	list, isList := flag.Value.(pflag.SliceValue)
	items, given := value.([]any)
	if isList != given {
		if isList {
			return fmt.Errorf("write a list of strings")
		}
		return fmt.Errorf("write a single value")
	}
	if isList {
		texts := make([]string, len(items))
		for i, it := range items {
			s, ok := it.(string)
			if !ok {
				return fmt.Errorf("write a list of strings")
			}
			texts[i] = s
		}
		flag.Changed = true
		return list.Replace(texts)
	}
	switch v := value.(type) {
	case string, bool, int64:
		return f.Set(flag.Name, fmt.Sprint(v))
	}
	return fmt.Errorf("write a string, number or boolean")
}

// badSetting is bad usage: exit code 2.
func badSetting(format string, args ...any) error {
	return sandbox.Errorf("invalid_argument", nil, format, args...)
}

// size is a flag for bytes with an optional K, M, G or T (powers of 1024).
type size int64

func (s *size) String() string {
	n, unit := int64(*s), ""
	if n == 0 {
		return ""
	}
	for _, u := range []string{"K", "M", "G", "T"} {
		if n%1024 != 0 {
			break
		}
		n, unit = n/1024, u
	}
	return strconv.FormatInt(n, 10) + unit
}

func (s *size) Type() string { return "size" }

func (s *size) Set(text string) error {
	t := strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(text)), "B")
	t = strings.TrimSuffix(t, "I")
	shift := 0
	if t != "" {
		if i := strings.IndexByte("KMGT", t[len(t)-1]); i >= 0 {
			shift, t = 10*(i+1), t[:len(t)-1]
		}
	}
	n, err := strconv.ParseInt(t, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)>>shift {
		return fmt.Errorf("write a size such as 512M or 4G")
	}
	*s = size(n << shift)
	return nil
}
