package deny

// Secrets are the patterns of --deny-secrets: files that by their names hold
// secrets in most projects. Public certificates that share the ending of keys
// are excepted, as TLS clients need them (certifi's cacert.pem).
func Secrets() []string {
	return []string{
		"**/.env*", "!**/.env.example",
		"**/*.pem", "**/*.key", "**/*.p12", "**/*.pfx", "**/*.ppk", "**/*.jks", "**/*.keystore", "**/*.kdbx",
		"!**/cacert.pem", "!**/cert.pem", "!**/chain.pem", "!**/fullchain.pem", "!**/ca.pem", "!**/ca-*.pem", "!**/*-cert.pem",
		"**/id_rsa", "**/id_dsa", "**/id_ecdsa", "**/id_ecdsa_sk", "**/id_ed25519", "**/id_ed25519_sk",
		"**/.netrc", "**/.git-credentials", "**/.pgpass", "**/.pypirc", "**/.htpasswd", "**/.vault-token",
		"**/.aws/credentials", "**/.docker/config.json", "**/.kube/config", "**/.cargo/credentials*",
		"**/credentials.json", "**/service-account*.json", "**/service_account*.json", "**/application_default_credentials.json",
	}
}
