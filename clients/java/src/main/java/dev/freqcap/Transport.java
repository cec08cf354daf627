package dev.freqcap;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Sends calls to one service. */
final class Transport {
    /** How often a call that may be repeated goes out where its connection was closed before it was answered. */
    private static final int TRIES_MAX = 3;

    final ObjectMapper json;
    private final String base;
    private final HttpClient http;
    private final Path keyFile;
    private volatile String key;

    Transport(ObjectMapper json, String url, String key, Path keyFile, HttpClient http) {
        URI parsed = URI.create(url);
        if (parsed.getHost() == null || !("http".equals(parsed.getScheme()) || "https".equals(parsed.getScheme()))) {
            throw new IllegalArgumentException(url + " is not an http:// or https:// address");
        }
        if (key != null && keyFile != null) {
            throw new IllegalArgumentException("give the key or its file, not both");
        }
        this.json = json;
        this.base = url.endsWith("/") ? url.substring(0, url.length() - 1) : url;
        this.http = http;
        this.keyFile = keyFile;
        this.key = keyFile == null ? key : readKey(keyFile);
    }

    /** One call, over before `until` (System.nanoTime): the answer of a 2xx. */
    <T> T once(String method, String path, byte[] body, String form, long until, Class<T> type) {
        HttpResponse<byte[]> answer = repeatable(method, path, body, form, until);
        if (answer.statusCode() == 401 && keyChanged()) {
            answer = repeatable(method, path, body, form, until);
        }
        if (answer.statusCode() / 100 != 2) {
            throw refusal(answer.statusCode(), answer.headers().firstValue("retry-after").orElse(""), answer.body());
        }
        try {
            return json.readValue(answer.body(), type);
        } catch (IOException error) {
            throw new UnavailableException(Reason.UNAVAILABLE, "not an answer of freqcap", error);
        }
    }

    /**
     * A kept connection that the service has meanwhile closed is no failure: the call goes out again. Every call of this client may be
     * repeated.
     */
    private HttpResponse<byte[]> repeatable(String method, String path, byte[] body, String form, long until) {
        for (int again = TRIES_MAX - 1;; again--) {
            try {
                return exchange(method, path, body, form, until);
            } catch (UnavailableException error) {
                boolean refused = error.getCause() instanceof java.net.ConnectException;
                if (error.reason() != Reason.AWAY || refused || again == 0) {
                    throw error;
                }
            }
        }
    }

    private HttpResponse<byte[]> exchange(String method, String path, byte[] body, String form, long until) {
        HttpRequest.Builder request = request(path).method(method,
            body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofByteArray(body));
        if (body != null) {
            request.header("content-type", form);
        }
        CompletableFuture<HttpResponse<byte[]>> sent = http.sendAsync(request.build(), HttpResponse.BodyHandlers.ofByteArray());
        try {
            // The timeout of a request ends with its headers; this one holds for the body, too.
            return sent.get(Math.max(until - System.nanoTime(), 0), TimeUnit.NANOSECONDS);
        } catch (TimeoutException error) {
            sent.cancel(true);
            throw new UnavailableException(Reason.TIMEOUT, "no answer of " + base + " in time", error);
        } catch (ExecutionException error) {
            throw new UnavailableException(Reason.AWAY, base + ": " + error.getCause(), error.getCause());
        } catch (InterruptedException error) {
            sent.cancel(true);
            Thread.currentThread().interrupt();
            throw new UnavailableException(Reason.TIMEOUT, "interrupted", error);
        }
    }

    /** Opens a long answer. */
    HttpResponse<java.io.InputStream> open(String path, String lastEventId, Duration silence) {
        HttpRequest.Builder request = request(path).header("accept", "text/event-stream").timeout(silence);
        if (lastEventId != null) {
            request.header("last-event-id", lastEventId);
        }
        try {
            return http.send(request.build(), HttpResponse.BodyHandlers.ofInputStream());
        } catch (IOException error) {
            throw new UnavailableException(Reason.AWAY, base + ": " + error, error);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new UnavailableException(Reason.TIMEOUT, "interrupted", error);
        }
    }

    private HttpRequest.Builder request(String path) {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(base + path));
        return key == null ? request : request.header("authorization", "Bearer " + key);
    }

    /** The error that an answer other than a 2xx is. */
    FreqcapException refusal(int status, String retryAfter, byte[] body) {
        JsonNode problem;
        try {
            problem = json.readTree(body);
        } catch (IOException error) {
            problem = json.createObjectNode();
        }
        String detail = problem.path("detail").asText("status " + status);
        if (status >= 400 && status < 500) {
            return new ProblemException(status, problem.path("code").asText("unknown"), detail);
        }
        Duration wait = retryAfter.matches("\\d{1,6}") ? Duration.ofSeconds(Long.parseLong(retryAfter)) : null;
        Types.BatchAnswer partial = null;
        if (problem.path("unavailable").isIntegralNumber()) {
            partial = json.convertValue(problem, Types.BatchAnswer.class);
        }
        return new UnavailableException(Reason.UNAVAILABLE, detail, null, wait, partial);
    }

    /** Reads the key's file again: it may have been rotated. */
    private boolean keyChanged() {
        if (keyFile == null) {
            return false;
        }
        String before = key;
        key = readKey(keyFile);
        return !key.equals(before);
    }

    private static String readKey(Path file) {
        try {
            String key = Files.readString(file).strip();
            if (key.isEmpty()) {
                throw new IllegalArgumentException(file + " is empty; it has to have the key's secret");
            }
            return key;
        } catch (IOException error) {
            throw new UncheckedIOException("cannot read the key", error);
        }
    }
}
