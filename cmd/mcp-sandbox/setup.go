package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// setupOptions are what setup is asked for.
type setupOptions struct {
	root, http, docker, file string
	headers                  []string
	print, remove, rules     bool
	yes                      bool
	// flags are more of serve's, from after "--".
	flags []string
}

func newSetup() *cobra.Command {
	var o setupOptions
	cmd := &cobra.Command{
		Use:   "setup CLIENT [flags] [-- flags of serve]",
		Short: "Add this server to a client's settings",
		Long:  "Add this server to the settings of a client, after it has asked, with a copy of the\nfile as it was. Everything else in the file stays. Flags of serve come after --.\nClients:\n",
		Example: `  mcp-sandbox setup claude-code --root ~/project --rules   the shell of one project, and rules to use it
  mcp-sandbox setup cursor --root . -- --deny-secrets      with more flags of serve
  mcp-sandbox setup cursor --print                         only show what would be written
  mcp-sandbox setup codex --remove                         take it out again`,
	}
	o.register(cmd)
	cmd.Flags().BoolVar(&o.print, "print", false, "print the entry and write nothing")
	cmd.Flags().BoolVar(&o.remove, "remove", false, "take the server out of the settings, and the rules out of --root")
	cmd.Flags().BoolVar(&o.rules, "rules", false, "also write rules into --root that make the client's agent use this server in place of its own shell")
	cmd.Flags().StringVar(&o.file, "file", "", "the client's settings, where they are elsewhere")
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	return cmd
}

// newConfigPrinter is setup --print by the name it had before.
func newConfigPrinter() *cobra.Command {
	o := setupOptions{print: true}
	cmd := &cobra.Command{
		Use:   "config CLIENT [flags] [-- flags of serve]",
		Short: "Print how to add this server to a client (setup --print)",
		Long:  "Print the snippet that adds this server to a client, as setup --print does:\n",
	}
	o.register(cmd)
	return cmd
}

// register makes cmd take the name of one client, which it sets up, and the flags of
// its entry.
func (o *setupOptions) register(cmd *cobra.Command) {
	formats := clientFormats()
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.name
	}
	cmd.Long += strings.Join(names, ", ") + "."
	cmd.ValidArgs, cmd.Args = names, oneClient(names)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		_, o.flags = splitFlags(cmd, args)
		return setUp(cmd, formats[slices.Index(names, args[0])], *o)
	}
	cmd.Flags().StringVar(&o.root, "root", "", "workspace directory of the server (default: a temporary one for each session)")
	cmd.Flags().StringVar(&o.http, "http", "", "address of a server that runs already, such as http://127.0.0.1:8765/mcp")
	cmd.Flags().StringArrayVar(&o.headers, "header", nil, "with --http: a header such as \"Authorization: Bearer TOKEN\", which is written into the settings")
	cmd.Flags().StringVar(&o.docker, "docker", "", "have the client start this image with docker run, with --root as its /work")
	_ = cmd.MarkFlagDirname("root")
}

// takesServerFlags says whether a command takes flags of serve, after "--".
func takesServerFlags(cmd *cobra.Command) bool {
	return strings.Contains(cmd.Use, "[-- flags of serve]")
}

// splitFlags takes what comes after "--" apart.
func splitFlags(cmd *cobra.Command, args []string) (words, flags []string) {
	if at := cmd.ArgsLenAtDash(); at >= 0 {
		return args[:at], args[at:]
	}
	return args, nil
}

func oneClient(names []string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		args, _ = splitFlags(cmd, args)
		if len(args) != 1 {
			return badSetting("one client is needed; use one of %s", strings.Join(names, ", "))
		}
		if !slices.Contains(names, args[0]) {
			if name := nearest(args[0], names); name != "" {
				return badSetting("there is no client %q; did you mean %s? Use one of %s", args[0], name, strings.Join(names, ", "))
			}
			return badSetting("there is no client %q; use one of %s", args[0], strings.Join(names, ", "))
		}
		return nil
	}
}

// entry is the server as the client is to know it.
func (o *setupOptions) entry(f clientFormat) (clientEntry, error) {
	if o.http != "" {
		u, err := url.Parse(o.http)
		switch {
		case !f.remote:
			return clientEntry{}, badSetting("%s takes no server by its address; leave --http out", f.name)
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			return clientEntry{}, badSetting("--http %q is not an address; write one such as http://127.0.0.1:8765/mcp", o.http)
		case o.root != "" && !o.rules && !o.remove:
			return clientEntry{}, badSetting("--root is chosen where the server of --http is started; leave it out")
		case len(o.flags) > 0 || o.docker != "":
			return clientEntry{}, badSetting("the server of --http runs already; give its flags and --docker where it is started")
		}
		e := clientEntry{url: o.http, headers: map[string]string{}}
		for _, h := range o.headers {
			name, value, ok := strings.Cut(h, ":")
			if !ok || strings.TrimSpace(name) == "" || strings.ContainsAny(h, "\r\n") {
				return clientEntry{}, badSetting("--header %q is not one; write it as \"Name: value\"", h)
			}
			e.headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
		return e, nil
	}
	if len(o.headers) > 0 {
		return clientEntry{}, badSetting("--header is for --http; leave it out")
	}
	if o.remove {
		return clientEntry{}, nil // its name is all that is looked for
	}
	root, args := "", []string{"serve"}
	if o.root != "" {
		var err error
		if root, err = rootOf(o.root); err != nil {
			return clientEntry{}, err
		}
		args = append(args, "--root", root)
	}
	if o.docker != "" {
		return o.inContainer(root)
	}
	if err := checkServerFlags(o.flags, root); err != nil {
		return clientEntry{}, err
	}
	program, err := ownProgram()
	return clientEntry{command: program, args: append(args, o.flags...)}, err
}

func setUp(cmd *cobra.Command, f clientFormat, o setupOptions) error {
	if o.rules && (o.root == "" || f.rules == "") {
		if f.rules == "" {
			return badSetting("no file of rules of %s is known; leave --rules out", f.name)
		}
		return badSetting("--rules writes into a project; name it with --root")
	}
	if o.print && o.remove {
		return badSetting("--print shows an entry and --remove takes it out; leave one of the two out")
	}
	e, err := o.entry(f)
	if err != nil {
		return err
	}
	if o.print {
		fmt.Fprintf(cmd.ErrOrStderr(), "For %s:\n", f.file)
		f.write(cmd.OutOrStdout(), e)
		return nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return badSetting("the home directory is not known; set HOME, or use --print")
	}
	file := o.file
	if file == "" {
		file = f.place(home, settingsDir(home))
	}
	entry := &e
	if o.remove {
		entry = nil
	}
	changes := []settingsChange{{file: file, mode: 0o600, below: home, edit: func(text []byte) ([]byte, bool, error) { return editEntry(f, text, entry) }}}
	if o.rules || o.remove && o.root != "" && f.rules != "" {
		changes = append(changes, settingsChange{file: filepath.Join(o.root, f.rules), mode: 0o644, below: o.root, edit: func(text []byte) ([]byte, bool, error) {
			now, alone := editRules(f, text, o.remove)
			return now, alone, nil
		}})
	}
	done := 0
	for _, c := range changes {
		switch changed, err := c.make(cmd, o); {
		case err != nil:
			return err
		case changed:
			done++
		}
	}
	if done > 0 && !o.remove {
		fmt.Fprintln(cmd.OutOrStdout(), f.next)
	}
	return nil
}

// editEntry edits a client's settings. alone says that without the entry they are what
// setup makes of no file at all.
func editEntry(f clientFormat, text []byte, entry *clientEntry) (now []byte, alone bool, err error) {
	now, err = f.edit(text, entry)
	if err != nil || entry != nil {
		return now, false, err
	}
	made, err := f.edit(nil, &clientEntry{command: "mcp-sandbox", args: []string{"serve"}})
	if err == nil {
		made, err = f.edit(made, nil)
	}
	return now, err == nil && bytes.Equal(now, made), err
}

// settingsChange is one change of a file that is somebody else's.
type settingsChange struct {
	file string
	mode fs.FileMode // of a new one
	// below is the directory under which empty directories go with a file that goes.
	below string
	// edit gives the new text. alone says that nothing is left in it but what setup
	// itself makes of a file that is not there.
	edit func(text []byte) (now []byte, alone bool, err error)
}

// make shows, asks and writes. It reports whether the file was changed.
func (c settingsChange) make(cmd *cobra.Command, o setupOptions) (bool, error) {
	file, err := filepath.Abs(c.file)
	if err != nil {
		return false, err
	}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real // settings that are kept elsewhere stay there
	} else if fi, err := os.Lstat(file); err == nil && fi.Mode().Type() == fs.ModeSymlink {
		return false, sandbox.Errorf("not_found", nil, "%s is a link to a file that is not there; make that file, or remove the link", c.file)
	}
	text, mode, err := readSettings(file)
	there := err == nil
	if !there {
		mode = c.mode
		if !errors.Is(err, fs.ErrNotExist) {
			return false, sandbox.Errorf("permission_denied", err, "%s cannot be read; check its rights, or use --print", c.file)
		}
	}
	now, alone, err := c.editAs(text)
	if err != nil {
		return false, badSetting("%s was left as it is: %v; add the entry by hand, see --print", c.file, err)
	}
	out := cmd.OutOrStdout()
	if bytes.Equal(now, text) {
		fmt.Fprintf(out, "%s: nothing to change\n", c.file)
		return false, nil
	}
	if there && unix.Access(file, unix.W_OK) != nil {
		return false, sandbox.Errorf("permission_denied", nil, "%s is read-only, so it was left as it is; make it writable, or use --print", c.file)
	}
	goes := alone && c.madeHere(file)
	if goes {
		now = nil
	}
	fmt.Fprintf(out, "%s:\n%s", c.file, difference(text, now))
	if _, err := os.Stat(filepath.Dir(file)); err != nil {
		fmt.Fprintf(out, "(%s is not there yet: is the client installed?)\n", filepath.Dir(c.file))
	}
	if !o.yes {
		yes, err := confirm(cmd, "Write it?")
		if err != nil || !yes {
			return false, err
		}
		// Clients write their settings while a person reads.
		if again, _, err := readSettings(file); err == nil != there || !bytes.Equal(again, text) {
			return false, badSetting("%s has changed since it was shown, and was left as it is; run setup again", c.file)
		}
	}
	if there && !goes {
		backup := file + backupMark + time.Now().Format("20060102-150405")
		for named, n := backup, 2; exists(backup); n++ {
			backup = fmt.Sprintf("%s-%d", named, n)
		}
		if err := replaceFile(backup, text, mode); err != nil {
			return false, sandbox.Errorf(codeOfWrite(err), err, "no copy of %s could be made, so it was left as it is; check the rights and the space of its directory", c.file)
		}
		fmt.Fprintf(out, "as it was: %s\n", backup)
	}
	did := "written"
	if goes {
		did, err = "removed", c.remove(file)
	} else if err = os.MkdirAll(filepath.Dir(file), 0o755); err == nil {
		err = replaceFile(file, now, mode)
	}
	if err != nil {
		return false, sandbox.Errorf(codeOfWrite(err), err, "%s could not be written; check the rights and the space of its directory", c.file)
	}
	fmt.Fprintf(out, "%s: %s\n", did, c.file)
	return true, nil
}

// readSettings reads a plain file: a FIFO or a device would hold setup up for ever.
func readSettings(file string) (text []byte, mode fs.FileMode, err error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !fi.Mode().IsRegular() {
		return nil, 0, errors.New("it is not a regular file")
	}
	text, err = io.ReadAll(f)
	return text, fi.Mode().Perm(), err
}

// editAs edits a text that begins with a byte order mark, or has CRLF as line ends, as
// one that has not, and gives both back.
func (c settingsChange) editAs(text []byte) (now []byte, alone bool, err error) {
	plain, marked := bytes.CutPrefix(text, []byte("\ufeff"))
	ends := bytes.Count(plain, []byte("\n"))
	crlf := ends > 0 && ends == bytes.Count(plain, []byte("\r\n"))
	if crlf {
		plain = bytes.ReplaceAll(plain, []byte("\r\n"), []byte("\n"))
	}
	if now, alone, err = c.edit(plain); err != nil {
		return nil, false, err
	}
	if crlf {
		now = bytes.ReplaceAll(now, []byte("\n"), []byte("\r\n"))
	}
	if marked {
		now = append([]byte("\ufeff"), now...)
	}
	return now, alone, nil
}

func codeOfWrite(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "permission_denied"
	}
	return "internal"
}

// backupMark follows a file's name in the name of the copy that setup makes before it
// changes one, followed by the time.
const backupMark = ".before-mcp-sandbox-"

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// madeHere says that setup made the file: no copy tells of one that was there before,
// and nobody has put a link in its place.
func (c settingsChange) madeHere(file string) bool {
	if fi, err := os.Lstat(c.file); err != nil || !fi.Mode().IsRegular() {
		return false
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	return err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return strings.HasPrefix(e.Name(), filepath.Base(file)+backupMark)
	})
}

// remove removes the file, and the directories that are empty without it, unless a
// link leads to one of them.
func (c settingsChange) remove(file string) error {
	if err := os.Remove(file); err != nil {
		return err
	}
	below, err := filepath.Abs(c.below)
	if err != nil {
		return nil
	}
	named, err := filepath.Abs(c.file)
	if err != nil {
		return nil
	}
	rel, err := filepath.Rel(below, named)
	if err != nil || !filepath.IsLocal(rel) {
		return nil
	}
	if below, err = filepath.EvalSymlinks(below); err != nil || filepath.Join(below, rel) != file {
		return nil
	}
	for dir := filepath.Dir(file); dir != below && os.Remove(dir) == nil; {
		dir = filepath.Dir(dir)
	}
	return nil
}

// replaceFile replaces a file at once: a client may read it meanwhile.
func replaceFile(file string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// confirm asks a person. Where there is none it is an error.
func confirm(cmd *cobra.Command, question string) (bool, error) {
	in := cmd.InOrStdin()
	if f, ok := in.(*os.File); ok && !isTerminal(f) {
		return false, badSetting("stdin is not a terminal, so nobody can be asked; use --yes")
	}
	fmt.Fprint(cmd.OutOrStdout(), question+" [y/N] ")
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && err != io.EOF {
		return false, err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	fmt.Fprintln(cmd.OutOrStdout(), "Nothing was changed.")
	return false, nil
}

// difference shows the lines between what both texts begin and end with.
func difference(was, now []byte) string {
	a, b := strings.SplitAfter(string(was), "\n"), strings.SplitAfter(string(now), "\n")
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	var out strings.Builder
	for _, part := range []struct {
		sign  string
		lines []string
	}{{"- ", a[start : len(a)-end]}, {"+ ", b[start : len(b)-end]}} {
		for _, line := range part.lines {
			if line != "" {
				out.WriteString("  " + part.sign + strings.TrimRight(line, "\r\n") + "\n")
			}
		}
	}
	return out.String()
}
