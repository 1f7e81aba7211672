package confine

import "path"

// cacheEnviron has package managers and compilers keep what they fetch and build
// below dir. What has no variable of its own is found by XDG_CACHE_HOME.
func cacheEnviron(dir string) []string {
	at := func(name string) string { return path.Join(dir, name) }
	return []string{
		"XDG_CACHE_HOME=" + dir,
		"GOCACHE=" + at("go-build"), "GOMODCACHE=" + at("go-mod"),
		"CARGO_HOME=" + at("cargo"),
		"npm_config_cache=" + at("npm"), "pnpm_config_store_dir=" + at("pnpm"), "YARN_CACHE_FOLDER=" + at("yarn"), "YARN_GLOBAL_FOLDER=" + at("yarn-berry"),
		"PIP_CACHE_DIR=" + at("pip"), "UV_CACHE_DIR=" + at("uv"),
		"MAVEN_OPTS=-Dmaven.repo.local=" + at("maven"), "GRADLE_USER_HOME=" + at("gradle"),
		"NUGET_PACKAGES=" + at("nuget"), "CCACHE_DIR=" + at("ccache"),
	}
}

// cacheFiles are the settings of programs that know no variable for it, in a home.
// Versions of pnpm before 11 read only npm's, of whose store_dir npm 11 complains.
func cacheFiles(home, dir string) []file {
	return []file{{path.Join(home, ".config/pnpm/rc"), "store-dir=" + path.Join(dir, "pnpm") + "\n", 0o644}}
}
