package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// byPath are the functions of package os that look a path up again, so that a
// link put there by a command is followed (CVE-2019-5736, CVE-2021-30465 are
// such). Files of a workspace are reached through package workspace alone.
var byPath = map[string]bool{
	"Open": true, "OpenFile": true, "Create": true, "CreateTemp": true, "ReadFile": true, "WriteFile": true,
	"ReadDir": true, "Mkdir": true, "MkdirAll": true, "MkdirTemp": true, "Remove": true, "RemoveAll": true,
	"Rename": true, "Stat": true, "Lstat": true, "Chmod": true, "Chown": true, "Symlink": true, "Link": true,
	"Readlink": true, "Truncate": true, "DirFS": true, "CopyFS": true,
}

// mayUsePaths are the files of serve, tools, session and manifest that may, each with the reason
// why no command can put a link there.
var mayUsePaths = map[string]string{
	"serve/http_drain.go":       "the operator's socket",
	"serve/principals.go":       "the operator's token file",
	"manifest/manifest.go":      "the operator's manifest",
	"manifest/environment.go":   "files that the operator's manifest names",
	"session/from.go":           "the archive that the operator names, and whether the workspace is empty, before a command runs",
	"session/cache.go":          "the state directory; a cache is removed when no command can change it any more",
	"session/claim.go":          "the state directory, and whether a workspace is there",
	"session/environ.go":        "certificates that the operator's environment names, before a command runs",
	"session/leftover.go":       "the server's own state directory, by an operator's command",
	"session/javatrust.go":      "it reads certificates that the operator names by SSL_CERT_FILE",
	"session/gitkeep.go":        "the state directory",
	"session/gitabove.go":       "where a repository lies above the root: names are looked at, nothing is opened, and only a path relative to the root is told",
	"session/gitdirs.go":        "where the root's .git leads, before a command runs; what is found is opened without following links",
	"session/gitleads.go":       "where a remote's path leads outside of what commands can write: names are looked at, nothing is opened",
	"session/gitleft.go":        "the state directory, and whether a workspace is there",
	"session/gitrepo.go":        "the clone's directory, made with mode 0700 and checked by its descriptor",
	"session/gitstage.go":       "the state directory",
	"session/transfer.go":       "the state directory",
	"session/lifecycle.go":      "the state directory, and the session's own temporary directory after its commands have ended",
	"session/manager.go":        "whether the state directory has a record",
	"session/protect.go":        "which repositories the workspace holds, before a command runs; the names found are judged again where they are used",
	"session/protectlinks.go":   "which links of git directories lead where, before a command runs; the names found are judged again where they are used",
	"session/record.go":         "the state directory, and directories whose device and inode a record holds",
	"session/review.go":         "the directory of a stage, in the state directory",
	"session/reviewgit.go":      "the state directory",
	"session/reviewlist.go":     "whether a workspace is there",
	"session/root.go":           "the workspace's top directory itself, before a command runs and after the last has ended",
	"session/saved.go":          "the state directory",
	"session/session.go":        "the workspace's top directory itself, before a command runs",
	"session/shared.go":         "the state directory",
	"session/takeover.go":       "the workspace's top directory itself, before a command runs",
	"session/saved_files.go":    "the state directory",
	"session/shell.go":          "the host's shells",
	"session/snapshots.go":      "the parent of the workspace",
	"session/staged.go":         "the state directory, and whether a workspace is there",
	"session/stateformat.go":    "the state directory",
	"session/workspacewatch.go": "the workspace's top directory, which is compared with the one that was made",
}

// TestNoPaths holds serve, tools, session and manifest to descriptors. It is a test and
// not forbidigo of golangci-lint, because it keeps a reason for each file, fails
// when a reason is out of date, and needs no linter to be built.
func TestNoPaths(t *testing.T) {
	root := filepath.Join("..", "..")
	used := map[string]bool{}
	for _, dir := range []string{"serve", "tools", "session", "manifest"} {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil || len(files) < 5 {
			t.Fatalf("%s has %d files, %v", dir, len(files), err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			rel := dir + "/" + filepath.Base(path)
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); !ok || x.Name != "os" || !byPath[s.Sel.Name] {
					return true
				}
				used[rel] = true
				if mayUsePaths[rel] == "" {
					t.Errorf("%s:%d uses os.%s: go through package workspace, os.Root or a descriptor, or add the file to mayUsePaths with the reason", rel, set.Position(n.Pos()).Line, s.Sel.Name)
				}
				return true
			})
		}
	}
	for rel := range mayUsePaths {
		if !used[rel] {
			t.Errorf("%s uses no paths any more: take it off mayUsePaths", rel)
		}
	}
}
