package main

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// makeNPM makes packages with what the package managers handle differently: a
// dependency, a program, an install script.
func (m *mirror) makeNPM() error {
	for _, p := range []struct {
		manifest map[string]any
		files    map[string]string
	}{
		{map[string]any{"name": "tiny-word", "version": "1.0.0", "main": "index.js"},
			map[string]string{"index.js": "module.exports = 'mirror'\n"}},
		{map[string]any{"name": "tiny-greet", "version": "1.0.0", "main": "index.js", "bin": map[string]string{"tiny-greet": "bin/greet.js"},
			"dependencies": map[string]string{"tiny-word": "^1.0.0"}, "scripts": map[string]string{"postinstall": "node install.js"}},
			map[string]string{
				"index.js":     "module.exports = () => 'hello from the ' + require('tiny-word')\n",
				"install.js":   "require('fs').writeFileSync('installed', 'yes')\n",
				"bin/greet.js": "#!/usr/bin/env node\nconsole.log(require('..')())\n",
			}},
	} {
		manifest, err := json.Marshal(p.manifest)
		if err != nil {
			return err
		}
		files := map[string]string{"package/package.json": string(manifest)}
		for name, text := range p.files {
			files["package/"+name] = text
		}
		tarball, err := tarred(files)
		if err != nil {
			return err
		}
		if err := m.publish(p.manifest, tarball); err != nil {
			return err
		}
	}
	return nil
}

// publish serves one version of a package as the only one there is.
func (m *mirror) publish(manifest map[string]any, tarball []byte) error {
	name, _ := manifest["name"].(string)
	version, _ := manifest["version"].(string)
	// Where the registry has it: corepack goes there without asking.
	path := fmt.Sprintf("/npm/%s/-/%s-%s.tgz", name, name[strings.LastIndex(name, "/")+1:], version)
	digest := sha512.Sum512(tarball)
	manifest["dist"] = map[string]any{
		"tarball":   "http://" + m.address() + path,
		"integrity": "sha512-" + base64.StdEncoding.EncodeToString(digest[:]),
	}
	body, err := json.Marshal(map[string]any{
		"name": name, "dist-tags": map[string]string{"latest": version},
		"versions": map[string]any{version: manifest},
		"time":     map[string]string{version: "2026-01-02T03:04:05.000Z"},
	})
	if err != nil {
		return err
	}
	one, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	m.put(path, tarball)
	m.put("/npm/"+name, body)
	m.put("/npm/"+name+"/"+version, one)
	return nil
}

const fetchLimit = 2 * time.Minute

// fetch takes NAME@VERSION from the registry into the mirror, without what it
// may depend on optionally and the mirror does not have.
func (m *mirror) fetch(ctx context.Context, pkg string) error {
	at := strings.LastIndex(pkg, "@")
	name, version := pkg[:at], pkg[at+1:]
	if m.has("/npm/" + name + "/" + version) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	body, err := get(ctx, m.upstream+"/"+name+"/"+version)
	if err != nil {
		return fmt.Errorf("%s cannot be fetched: %w", pkg, err)
	}
	var manifest map[string]any
	if err := json.Unmarshal(body, &manifest); err != nil {
		return fmt.Errorf("%s cannot be fetched: %w", pkg, err)
	}
	dist, _ := manifest["dist"].(map[string]any)
	from, _ := dist["tarball"].(string)
	tarball, err := get(ctx, from)
	if err != nil {
		return fmt.Errorf("%s cannot be fetched: %w", pkg, err)
	}
	optional, _ := manifest["optionalDependencies"].(map[string]any)
	for other := range optional {
		if !m.has("/npm/" + other) {
			delete(optional, other)
		}
	}
	return m.publish(manifest, tarball)
}

func get(ctx context.Context, url string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, reply.Status)
	}
	return io.ReadAll(io.LimitReader(reply.Body, 256<<20))
}
