package serve

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

// Clients that are refused with 401 look for an authorization server: first for
// its metadata (RFC 9728, RFC 8414), then at the paths it would have without any
// (MCP 2025-03-26, "Fallbacks for Servers without Metadata Discovery"). This server
// never is one; with --oauth-issuer it names one, and otherwise a client must be able
// to tell its user that there is none.
var oauthPaths = []string{"/register", "/authorize", "/token", "/revoke", "/introspect", "/device_authorization", "/oauth/register", "/oauth/authorize", "/oauth/token"}

// resourcePath is where the metadata of a protected resource is, with the path of
// its address behind it (RFC 9728, section 3.1).
const resourcePath = "/.well-known/oauth-protected-resource"

// asksOAuth says whether a path asks for an authorization server.
func asksOAuth(path string) bool {
	return slices.Contains(oauthPaths, path) || asksMetadata(path)
}

// asksMetadata: some clients put the well-known part behind the endpoint's path.
func asksMetadata(path string) bool { return strings.Contains(path+"/", "/.well-known/") }

// answerOAuth needs no token: it says where the authorization server is, or that
// there is none.
func (h *HTTP) answerOAuth(w http.ResponseWriter, r *http.Request) {
	h.delayRefusal(r, "")
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close") // the body is not looked at
	}
	a := h.options.OAuth
	why := "this server has no OAuth metadata and takes a fixed bearer token"
	if a != nil {
		why = "the authorization server is " + a.options.Issuer + "; see " + a.metadataURL()
	}
	switch path := r.URL.Path; {
	case a != nil && (path == resourcePath || strings.HasPrefix(path, resourcePath+"/")):
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a.metadata())
		return
	case asksMetadata(path):
		http.Error(w, "not found; "+why, http.StatusNotFound)
		return
	case a == nil:
		why = "this server takes a fixed bearer token and has no OAuth; put the header Authorization: Bearer TOKEN into the client's configuration, with a token from the server's token file"
	}
	// The shape of RFC 6749, section 5.2, and RFC 7591, section 3.2.2.
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": "access_denied", "error_description": why})
}

// metadata is the document of RFC 9728, section 2. It is the same below each path:
// the addresses of named sandboxes are one resource, and clients compare prefixes.
func (a *OAuth) metadata() map[string]any {
	out := map[string]any{
		"resource":                 a.options.Resource,
		"authorization_servers":    []string{a.options.Issuer},
		"bearer_methods_supported": []string{"header"},
		"resource_name":            "mcp-sandbox",
	}
	if len(a.scopes) > 0 {
		out["scopes_supported"] = a.scopeNames()
	}
	return out
}

func (a *OAuth) metadataURL() string {
	u, _ := url.Parse(a.options.Resource) // checked at the start
	return u.Scheme + "://" + u.Host + resourcePath + strings.TrimSuffix(u.EscapedPath(), "/")
}

// challenge is a WWW-Authenticate header (RFC 6750, section 3; RFC 9728, section
// 5.1). A client asks its authorization server for the scopes it names (MCP
// 2025-11-25, "Scope Selection Strategy").
func (a *OAuth) challenge(code, text string, scopes []string) string {
	out := `Bearer realm="mcp-sandbox"`
	if code != "" {
		out += `, error="` + code + `"`
	}
	if a == nil {
		return out
	}
	if text != "" {
		out += `, error_description="` + text + `"`
	}
	if len(scopes) > 0 {
		out += `, scope="` + strings.Join(scopes, " ") + `"`
	}
	return out + `, resource_metadata="` + a.metadataURL() + `"`
}

// authorize identifies the sender, or gives the refusal, whose challenge is "" when
// no other token would help. The token is read from the Authorization header alone:
// an address ends up in logs and histories (RFC 6750, section 2.3).
func (g *gate) authorize(r *http.Request) (by principal, refused *httpError, challenge string) {
	if r.Header.Get(forwardedHeader) != "" {
		// Admitted where it came in; an invented header is nobody's.
		e, ok := sentOn(r)
		if !ok {
			return principal{}, refusal(http.StatusUnauthorized, "the header "+forwardedHeader+" is reserved for servers of one store; leave it out"), ""
		}
		return principal{name: e.Principal, valid: context.Background()}, nil, ""
	}
	if g.principals == nil && g.oauth == nil {
		return principal{name: anonymous, valid: context.Background()}, nil, ""
	}
	deny := func(code, text, detail string, scopes []string) (principal, *httpError, string) {
		status := http.StatusUnauthorized
		if code == "insufficient_scope" {
			status = http.StatusForbidden
		}
		return principal{}, refusal(status, text), g.oauth.challenge(code, detail, scopes)
	}
	from := "send the header Authorization: Bearer TOKEN with one from the server's token file"
	var all []string
	if g.oauth != nil {
		from = "log in at " + g.oauth.options.Issuer
		all = g.oauth.scopeNames()
	}
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 || headers[0] == "" {
		return deny("", "a bearer token is needed; "+from, "", all)
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	token = strings.TrimSpace(token)
	if len(headers) == 1 && strings.EqualFold(scheme, "Bearer") {
		if g.principals != nil {
			if name, valid, ok := g.principals.Lookup(token); ok {
				return principal{name: name, valid: valid}, nil, ""
			}
		}
		// A static token may have any characters, a JWT has two dots.
		if g.oauth != nil && strings.Count(token, ".") == 2 {
			by, err := g.oauth.verify(r.Context(), token)
			switch {
			case errors.Is(err, errIssuerAway):
				return principal{}, refusal(http.StatusServiceUnavailable, "the authorization server "+g.oauth.options.Issuer+" cannot be reached from here, so no token can be checked; try again in a moment"), ""
			case err != nil:
				return deny("invalid_token", err.Error()+"; "+from, err.Error(), all)
			case by.grant != nil && len(by.grant) == 0:
				return deny("insufficient_scope", "the token has none of the scopes that this server knows; "+from+" with one of: "+strings.Join(all, " "), "", all)
			}
			return by, nil, ""
		}
	}
	if g.oauth == nil {
		from = "send Authorization: Bearer TOKEN with one from the server's token file"
	}
	return deny("invalid_token", "unknown token; "+from, "", all)
}

// lacksScope answers a call that the token's scopes do not allow, so that a client
// can ask for more (MCP 2025-11-25, "Scope Challenge Handling").
func (h *HTTP) lacksScope(w http.ResponseWriter, r *http.Request, by principal, msg message) bool {
	if by.grant == nil || msg.method != string(mcp.MethodToolsCall) {
		return false
	}
	var call struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(msg.params, &call) // the library answers a bad one
	if offered, granted := h.server.Allows(by.grant, call.Name); granted || !offered {
		return false
	}
	a := h.options.OAuth
	need := slices.Clone(by.scopes)
	for _, s := range a.scopes {
		if _, ok := h.server.Allows(a.granted([]string{s.name}), call.Name); ok {
			need = append(need, s.name)
			break
		}
	}
	h.server.Denied("scope")
	w.Header().Set("WWW-Authenticate", a.challenge("insufficient_scope", "", need))
	e := refusal(http.StatusForbidden, "the token has no scope for "+call.Name+"; log in with one of: "+strings.Join(need, " "))
	e.id = msg.id
	h.refuse(w, r, by.name, e)
	return true
}
