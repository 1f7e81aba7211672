package session

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// referenceCodes are all error codes of the reference's taxonomy.
var referenceCodes = strings.Fields(`
invalid_manifest_path invalid_compression_scheme apply_patch_invalid_path apply_patch_invalid_diff skills_config_invalid sandbox_config_invalid
exec_nonzero exec_timeout exec_transport_error pty_session_not_found exposed_port_unavailable
workspace_read_not_found workspace_archive_read_error workspace_archive_write_error workspace_write_type_error workspace_start_error
workspace_stop_error workspace_root_not_found apply_patch_file_not_found apply_patch_decode_error
local_file_read_error local_dir_read_error local_checksum_error git_missing_in_image git_clone_error git_subpath_error git_copy_error
mount_missing_tool mount_failed mount_config_invalid snapshot_persist_error snapshot_restore_error snapshot_not_restorable`)

// TestErrorsDoc: docs/errors.md lists exactly the codes the source gives, and
// maps each of the reference's once, to codes there are.
func TestErrorsDoc(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs, ok := strings.Cut(string(doc), "## Coming from")
	if !ok {
		t.Fatal("the document has lost its second part")
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|([^|]*)\\|([^|]*)\\|$")
	var listed []string
	for _, m := range row.FindAllStringSubmatch(ours, -1) {
		listed = append(listed, m[1])
		if r := strings.TrimSpace(m[3]); !slices.Contains([]string{"no", "after", "yes"}, r) {
			t.Errorf("%s: retry is %q", m[1], r)
		}
	}
	used := codesInSource(t)
	for code, where := range used {
		if !slices.Contains(listed, code) {
			t.Errorf("%s gives %s, which the document does not list", where, code)
		}
	}
	for _, code := range listed {
		if used[code] == "" {
			t.Errorf("the document lists %s, which no source gives", code)
		}
	}
	code := regexp.MustCompile("`([a-z_]+)`")
	var mapped []string
	for _, m := range row.FindAllStringSubmatch(theirs, -1) {
		mapped = append(mapped, m[1])
		targets := code.FindAllStringSubmatch(m[2], -1)
		if len(targets) == 0 && strings.TrimSpace(m[2]) != "-" {
			t.Errorf("%s is mapped to %q", m[1], m[2])
		}
		for _, to := range targets {
			if !slices.Contains(listed, to[1]) {
				t.Errorf("%s is mapped to %s, which is no code", m[1], to[1])
			}
		}
	}
	want := slices.Sorted(slices.Values(referenceCodes))
	slices.Sort(mapped)
	if !slices.Equal(mapped, want) {
		t.Errorf("mapped\n%v\nwant\n%v", mapped, want)
	}
}

// codesInSource finds the codes where they are given: as the first argument of
// the error makers, and in the packages' constants.
func codesInSource(t *testing.T) map[string]string {
	t.Helper()
	made := regexp.MustCompile(`(?:errorf|refuse|fail)\("([a-z_]+)",|[cC]ode[A-Z]\w*\s*=\s*"([a-z_]+)"|code:\s*"([a-z_]+)"|Code\(\) string\s*\{ return "([a-z_]+)"|code(?:, hint)? :?= "([a-z_]+)"|"(exec_timeout|edit_not_found)[:" ]`)
	out := map[string]string{}
	for _, dir := range []string{"session", "tools", "workspace", "snapshot", "ptyproc", "confine", "egress", "cmd"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
				return err
			}
			b, err := os.ReadFile(p)
			for line := range strings.Lines(string(b)) {
				if !strings.Contains(line, `"`) {
					continue // the most lines by far, and the expression is slow
				}
				for _, m := range made.FindAllStringSubmatch(line, -1) {
					for _, c := range m[1:] {
						if c != "" {
							out[c] = p
						}
					}
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// What the proxy answers a program inside is no tool's error.
	delete(out, "unreachable")
	if len(out) < 20 {
		t.Fatalf("only %d codes found: the test looks in the wrong place", len(out))
	}
	return out
}
