package serve

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// Clients that are refused with 401 look for an authorization server: first for
// its metadata (RFC 9728, RFC 8414), then at the paths it would have without any
// (MCP 2025-03-26, "Fallbacks for Servers without Metadata Discovery"). There is
// none, and a client must be able to tell its user so.
var oauthPaths = []string{"/register", "/authorize", "/token", "/revoke", "/introspect", "/device_authorization", "/oauth/register", "/oauth/authorize", "/oauth/token"}

// asksOAuth says whether a path asks for an authorization server.
func asksOAuth(path string) bool {
	return slices.Contains(oauthPaths, path) || asksMetadata(path)
}

// asksMetadata: some clients put the well-known part behind the endpoint's path.
func asksMetadata(path string) bool { return strings.Contains(path+"/", "/.well-known/") }

// answerOAuth needs no token: it says that there is no authorization server.
func (h *HTTP) answerOAuth(w http.ResponseWriter, r *http.Request) {
	h.delayRefusal(r, "")
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close") // the body is not looked at
	}
	if asksMetadata(r.URL.Path) {
		http.Error(w, "not found; this server has no OAuth metadata and takes a fixed bearer token", http.StatusNotFound)
		return
	}
	// The shape of RFC 6749, section 5.2, and RFC 7591, section 3.2.2.
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{
		"error":             "access_denied",
		"error_description": "this server takes a fixed bearer token and has no OAuth; put the header Authorization: Bearer TOKEN into the client's configuration, with a token from the server's token file",
	})
}
