package oauth

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Accepted is what this installation accepts, for its metadata.
type Accepted struct {
	URL          string   // of the server
	Certificates bool     // X.509-SVIDs as client certificates
	SVIDs        bool     // JWT-SVIDs
	Tokens       bool     // of OIDC issuers
	Algorithms   []string // of assertions and of DPoP proofs
}

// Metadata adds the endpoint to the metadata of a token issuer (RFC 8414, RFC 8705, RFC 9396, RFC 9449,
// draft-ietf-oauth-spiffe-client-auth section 4). Assertions of an OIDC issuer have no registered name as a method, since
// private_key_jwt is one that the client itself has signed; client_assertion_types_supported is ours.
func Metadata(issuer []byte, a Accepted) ([]byte, error) {
	var all map[string]any
	if err := json.Unmarshal(issuer, &all); err != nil {
		return nil, fmt.Errorf("metadata of the token issuer: %w", err)
	}
	methods, assertions := []string{}, []string{}
	if a.Tokens {
		assertions = append(assertions, AssertionBearer)
	}
	if a.Certificates {
		methods = append(methods, "tls_client_auth", "spiffe_x509")
	}
	if a.SVIDs {
		methods, assertions = append(methods, "spiffe_jwt"), append(assertions, AssertionSPIFFE)
	}
	slices.Sort(methods)
	for _, endpoint := range []struct{ name, path string }{{"token", TokenPath}, {"introspection", IntrospectPath}, {"revocation", RevokePath}} {
		all[endpoint.name+"_endpoint"] = a.URL + endpoint.path
		if len(methods) > 0 { // RFC 8414 section 3.2
			all[endpoint.name+"_endpoint_auth_methods_supported"] = methods
		}
		all[endpoint.name+"_endpoint_auth_signing_alg_values_supported"] = a.Algorithms
	}
	all["grant_types_supported"] = []string{grantCredentials, grantExchange, grantCIBA}
	all["client_assertion_types_supported"] = assertions
	all["dpop_signing_alg_values_supported"] = a.Algorithms
	all["tls_client_certificate_bound_access_tokens"] = a.Certificates
	all["authorization_details_types_supported"] = []string{DetailsAsked}
	return json.Marshal(all)
}
