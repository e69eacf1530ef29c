package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/halcyon-db/halcyon"
)

// OperatorClient asks an operator's API.
type OperatorClient struct {
	// Base is the URL of the server.
	Base string
	// Key is an admin key; empty for a handler that asks for none.
	Key string
	// HTTP carries the requests.
	HTTP *http.Client
}

// OperatorError is a refusal of an operator's API.
type OperatorError struct {
	Status  int
	Code    string
	Message string
}

func (e *OperatorError) Error() string { return e.Message }

// As makes errors.As find the *halcyon.RequestError that the server refused with, so that a command sees the same whether or not a server has the data.
func (e *OperatorError) As(target any) bool {
	into, ok := target.(**halcyon.RequestError)
	if ok {
		*into = &halcyon.RequestError{Code: halcyon.Code(e.Code), Message: e.Message, Status: e.Status}
	}
	return ok
}

// Do sends a request and returns the answer, whose body the caller closes. A refusal is an *OperatorError.
func (c *OperatorClient) Do(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	target := c.Base + OperatorPrefix + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if c.Key != "" {
		req.Header.Set("Authorization", "Convex "+c.Key)
	}
	if req.Body != nil && req.ContentLength <= 0 {
		// A refusal comes before a long body is sent: net/http waits a second for the server to ask for it.
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	refused := OperatorError{Status: resp.StatusCode}
	if json.Unmarshal(text, &refused) != nil || refused.Code == "" {
		return nil, &OperatorError{resp.StatusCode, "NotHalcyon", fmt.Sprintf("%s answered %s to a request of the operator's API", c.Base, resp.Status)}
	}
	return nil, &refused
}

// Get sends a request without a body and decodes the answer.
func (c *OperatorClient) Get(ctx context.Context, path string, query url.Values, into any) error {
	resp, err := c.Do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// Post sends a body and decodes the answer.
func (c *OperatorClient) Post(ctx context.Context, path string, body []byte, into any) error {
	resp, err := c.Do(ctx, http.MethodPost, path, nil, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// Told reads an answer of lines to its end. progress is given each line of it; the result is decoded also when there is an error, which is
// an *OperatorError.
func (c *OperatorClient) Told(ctx context.Context, path string, query url.Values, body io.Reader, progress func(json.RawMessage), into any) error {
	resp, err := c.Do(ctx, http.MethodPost, path, query, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for lines := json.NewDecoder(resp.Body); ; {
		var told Told
		if err := lines.Decode(&told); err != nil {
			return fmt.Errorf("the answer was cut short: %w", err)
		}
		if told.Result == nil {
			if told.Progress != nil {
				progress(told.Progress)
			}
			continue
		}
		if err := json.Unmarshal(told.Result, into); err != nil {
			return err
		}
		if told.Error != nil {
			return &OperatorError{http.StatusOK, told.Error.Code, told.Error.Message}
		}
		return nil
	}
}
