package halcyon

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// ReservedAddresses returns the patterns of the addresses that belong to the server: those that end in "/" stand for all below them. Under
// /api/ a module may have others.
func ReservedAddresses() []string {
	return []string{
		"/api/sync", "/api/query", "/api/mutation", "/api/action", "/api/function", "/api/query_ts", "/api/query_at_ts", "/api/query_batch",
		"/api/debug_event", "/api/run/", "/api/storage/", "/api/admin/",
		HTTPPrefix + "/",
		"/version", "/instance_name", "/instance_version", "/_health", "/_ready", "/_debug/",
	}
}

// checkAddress finds out whether a module may have an address.
func checkAddress(path string) error {
	if path == "" || path[0] != '/' {
		return errors.New("it is not for every host; the pattern must be a path with or without a method")
	}
	reserved := ReservedAddresses()
	i := slices.IndexFunc(reserved, func(p string) bool {
		return path == strings.TrimSuffix(p, "/") || strings.HasSuffix(p, "/") && strings.HasPrefix(path, p)
	})
	switch {
	case i < 0:
		return nil
	case reserved[i] == HTTPPrefix+"/":
		return fmt.Errorf("addresses below %s/ are for Module.HTTP", HTTPPrefix)
	}
	return fmt.Errorf("%s is the server's own", reserved[i])
}

// claim is an address that a module claims.
type claim struct {
	what    string // for people
	pattern string // of net/http.ServeMux
}

// checkRoutes finds patterns that net/http would panic on, alone or beside each other, and names those who want them.
func checkRoutes(modules []*Module) error {
	var errs []error
	var claims []claim
	for _, m := range modules {
		for _, r := range m.routes {
			c := claim{fmt.Sprintf("route %q of module %q", r.pattern, m.name), r.pattern}
			if err := checkAddress(r.pattern[strings.IndexByte(r.pattern, ' ')+1:]); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c.what, err))
				continue
			}
			claims = append(claims, c)
		}
		for _, r := range m.sockets {
			c := claim{fmt.Sprintf("WebSocket %q of module %q", r.path, m.name), r.pattern()}
			if err := errors.Join(r.check(), checkAddress(r.path)); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c.what, err))
				continue
			}
			claims = append(claims, c)
		}
		for _, r := range m.httpRoutes {
			c := claim{fmt.Sprintf("HTTP route %q of module %q", r.method+" "+r.path, m.name), r.pattern()}
			if err := r.check(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", c.what, err))
				continue
			}
			claims = append(claims, c)
		}
	}
	return errors.Join(append(errs, checkClaims(claims))...)
}

// checkClaims finds claims that can't be met, alone or beside an earlier one.
func checkClaims(claims []claim) error {
	var errs []error
	var met []claim
	mux := http.NewServeMux()
	for _, c := range claims {
		err := meet(mux, c)
		if err == nil {
			met = append(met, c)
			continue
		}
		for _, other := range met { // the mux knows patterns, not who wants them
			two := http.NewServeMux()
			if meet(two, other) == nil && meet(two, c) != nil {
				err = fmt.Errorf("%s stands where the %s does", c.what, other.what)
				break
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// meet adds a pattern to a mux.
func meet(mux *http.ServeMux, c claim) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %v", c.what, p)
		}
	}()
	mux.Handle(c.pattern, http.NotFoundHandler())
	return nil
}
