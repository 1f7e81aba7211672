package egress

import "strconv"

// noProxy is what a session reaches on its own loopback, without the proxy. curl
// from 7.86, Go, and most Python libraries read ranges; the rest read the names.
// 0.0.0.0 is what servers print that listen everywhere, or else 198.18.0.2, the
// session's address towards its gate; sandbox is the session's own host name.
const noProxy = "localhost,.localhost,127.0.0.1,127.0.0.0/8,0.0.0.0,198.18.0.2,::1,[::1],2001:2::2,[2001:2::2],sandbox"

// Environ gives the NAME=VALUE pairs with which commands find the proxy at
// proxyAddr, as "127.0.0.1:3128". With them git, npm, pip, go, cargo, curl, wget
// and apt work without further settings.
//
// None of them opens anything: in the session's network the proxy is the only
// way out, whether a program reads these or not.
func Environ(proxyAddr string) []string {
	url := "http://" + proxyAddr
	env := []string{
		// curl reads http_proxy in small letters only (CVE-2016-5388 and its kin, where
		// a request header becomes HTTP_PROXY); others read capitals only.
		"http_proxy=" + url, "HTTP_PROXY=" + url,
		"https_proxy=" + url, "HTTPS_PROXY=" + url,
		// Not socks5h: Python's requests and httpx fail on it without an extra package.
		"all_proxy=" + url, "ALL_PROXY=" + url,
		"no_proxy=" + noProxy, "NO_PROXY=" + noProxy,
		// npm's own configuration would win over http_proxy.
		"npm_config_proxy=" + url, "npm_config_https_proxy=" + url, "npm_config_noproxy=" + noProxy,
		"NODE_USE_ENV_PROXY=1", // Node's fetch and http read the variables with it, from 22.21 and 24.5
		"CARGO_HTTP_PROXY=" + url,
		// libgit2 does not read the variables in every version; the git program does.
		"CARGO_NET_GIT_FETCH_WITH_CLI=true",
	}
	// git speaks ssh:// and git:// without a proxy: those addresses of the usual
	// host become https, which is how package managers write their git sources.
	rewrites := []string{"git@github.com:", "ssh://git@github.com/", "git://github.com/"}
	env = append(env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(rewrites)))
	for i, from := range rewrites {
		n := strconv.Itoa(i)
		env = append(env, "GIT_CONFIG_KEY_"+n+"=url.https://github.com/.insteadOf", "GIT_CONFIG_VALUE_"+n+"="+from)
	}
	return env
}
