package s3store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"
)

// RefusedError is of an address that is well formed and led to no bucket that can be
// used. What says which it was, and what to do.
type RefusedError struct {
	What  string
	Cause error
}

func (e *RefusedError) Error() string {
	if e.Cause == nil {
		return e.What
	}
	return e.What + " (" + e.Cause.Error() + ")"
}

func (e *RefusedError) Unwrap() error { return e.Cause }

// refusedAs tells apart why a bucket was not reached.
func refusedAs(err error) error {
	var answer minio.ErrorResponse
	var cert *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var plain tls.RecordHeaderError
	what := "the store cannot be reached; check the endpoint and the network to it"
	switch {
	case errors.As(err, &answer):
		switch answer.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			what = "the store denies access to the bucket; check the credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), their rights and the clock"
		case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect, http.StatusBadRequest:
			what = "the store does not serve the bucket under this address; check region= and endpoint="
		default:
			what = "the store did not answer as an object store; check endpoint=, or try again when it is back"
		}
	case errors.As(err, &cert), errors.As(err, &authority):
		what = "the store's certificate is not trusted here; name its authority's file in SSL_CERT_FILE, and the endpoint as the certificate does"
	case errors.As(err, &plain), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		what = "the store speaks plain HTTP; add insecure=1 if the network to it is yours alone"
	}
	return &RefusedError{What: what, Cause: err}
}
