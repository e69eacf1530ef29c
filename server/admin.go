package server

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/halcyon-db/halcyon"
)

// AdminKey checks the admin key of a request, which is in the header "Authorization: Convex KEY", and returns whose it is. The error is a
// *halcyon.RequestError with the status and the code of the answer: 401 when there is no key or a wrong one.
func (s *Server) AdminKey(r *http.Request) (halcyon.AdminKey, error) {
	kind, key := authorization(r)
	if kind != "convex" {
		return halcyon.AdminKey{}, halcyon.Refuse(halcyon.CodeNeedsAdmin, nil)
	}
	return s.checkAdminKey(r.Context(), key)
}

func (s *Server) checkAdminKey(ctx context.Context, key string) (halcyon.AdminKey, error) {
	known, err := s.app.CheckAdminKey(ctx, key)
	switch {
	case errors.Is(err, halcyon.ErrBadAdminKey):
		return known, halcyon.Refuse(halcyon.CodeBadAdminKey, err)
	case errors.Is(err, halcyon.ErrNotOpen), err != nil && ctx.Err() != nil:
		return known, halcyon.Refuse(halcyon.CodeUnavailable, err)
	case err != nil:
		return known, halcyon.Refuse(halcyon.CodeInternal, err)
	}
	return known, nil
}

// authorization returns the kind, in small letters, and the value of the header Authorization.
func authorization(r *http.Request) (kind, credentials string) {
	kind, credentials, _ = strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	return strings.ToLower(kind), strings.TrimSpace(credentials)
}
