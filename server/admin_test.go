package server

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/halcyon-db/halcyon"
)

func TestAdminKey(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	key, err := f.app.CreateAdminKey(t.Context(), "ops")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, header string
		want         halcyon.Code
	}{
		{"the key", "Convex " + key, ""},
		{"in small letters", "convex  " + key, ""},
		{"nothing", "", halcyon.CodeNeedsAdmin},
		{"a token of a user", "Bearer " + key, halcyon.CodeNeedsAdmin},
		{"no key", "Convex", halcyon.CodeBadAdminKey},
		{"another key", "Convex ops|00", halcyon.CodeBadAdminKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			got, err := s.AdminKey(r)
			var refused *halcyon.RequestError
			if errors.As(err, &refused) && (refused.Code != tt.want || refused.Status != 401) || (err == nil) != (tt.want == "") {
				t.Errorf("%q: %+v, %v; want %q", tt.header, got, err, tt.want)
			}
			if err == nil && got.Name != "ops" {
				t.Errorf("the key of %q", got.Name)
			}
		})
	}
}
