package dev.freqcap;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/** Every step of clients/vectors.json against a running service (FREQCAP_URL, FREQCAP_KEY) and the fake one (FREQCAP_FAKE). */
class VectorsTest {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration PATIENT = Duration.ofSeconds(30);
    private static final Map<String, Reason> REASONS =
        Map.of("timeout", Reason.TIMEOUT, "away", Reason.AWAY, "unavailable", Reason.UNAVAILABLE);

    @TempDir
    Path folder;

    private static JsonNode vectors() throws Exception {
        String run = "java-" + UUID.randomUUID().toString().substring(0, 12);
        return JSON.readTree(Files.readString(Path.of("../vectors.json")).replace("{run}", run));
    }

    private static String url() {
        String url = System.getenv("FREQCAP_URL");
        assumeTrue(url != null, "script/clients starts what these tests want");
        return url;
    }

    private static Stream<JsonNode> list(JsonNode node) {
        return StreamSupport.stream(node.spliterator(), false);
    }

    @TestFactory
    Stream<DynamicTest> steps() throws Exception {
        Client shared = Client.of(url()).key(System.getenv("FREQCAP_KEY")).decisionDeadline(PATIENT).deadline(PATIENT).build();
        JsonNode paths = JSON.readTree(Path.of("../../openapi/openapi.json").toFile()).path("paths");
        return list(vectors().path("steps")).filter(step -> paths.has(step.path("needs").asText("/events")))
            .map(step -> DynamicTest.dynamicTest(step.path("name").asText(), () -> step(step, shared)));
    }

    private void step(JsonNode step, Client shared) throws Exception {
        Client client = step.has("client") ? clientOf(step) : shared;
        if (step.has("error")) {
            compareError(step.path("error"), assertThrows(FreqcapException.class, () -> call(client, step)));
            return;
        }
        Decision<?> answer = call(client, step);
        for (int time = 1; time < step.path("times").asInt(1); time++) {
            answer = call(client, step);
        }
        compare(step.path("expect"), JSON.valueToTree(answer.answer()), "the answer");
        assertEquals(REASONS.get(step.path("fallback").asText()), answer.fallback());
        step.path("counters").fields()
            .forEachRemaining(one -> assertEquals(one.getValue().asLong(), client.fallbacks(REASONS.get(one.getKey())), one.getKey()));
    }

    private Client clientOf(JsonNode step) throws Exception {
        JsonNode settings = step.path("client");
        String base = step.path("base").asText("service");
        String url = switch (base) {
            case "service" -> url();
            case "refused" -> nobodyListens();
            default -> System.getenv("FREQCAP_FAKE") + base;
        };
        Client.Builder made = Client.of(url).key(settings.path("key").asText(null));
        if (settings.has("decision_deadline_ms")) {
            made.decisionDeadline(Duration.ofMillis(settings.path("decision_deadline_ms").asLong()));
        }
        if (settings.has("deadline_ms")) {
            made.deadline(Duration.ofMillis(settings.path("deadline_ms").asLong()));
        }
        if (settings.path("on_timeout").asText().equals("deny")) {
            made.denyOnTimeout();
        }
        if (!settings.has("key_file")) {
            return made.build();
        }
        Path file = folder.resolve("key");
        Files.writeString(file, settings.path("key_file").path(0).asText() + "\n");
        Client client = made.keyFile(file).build();
        Files.writeString(file, settings.path("key_file").path(1).asText() + "\n");
        return client;
    }

    private static String nobodyListens() throws Exception {
        try (ServerSocket socket = new ServerSocket(0)) {
            return "http://127.0.0.1:" + socket.getLocalPort();
        }
    }

    private static List<String> texts(JsonNode list) {
        return list(list).map(JsonNode::asText).toList();
    }

    private static Decision<?> call(Client client, JsonNode step) throws Exception {
        JsonNode args = step.path("args");
        JsonNode body = args.path("body");
        switch (step.path("call").asText()) {
            case "count":
                return new Decision<>(client.count(JSON.treeToValue(args.path("event"), Types.EventBody.class)), null);
            case "count_all":
                Duration deadline = Duration.ofMillis(step.path("client").path("deadline_ms").asLong(30_000));
                return new Decision<>(client.countAll(events(args), deadline), null);
            case "cap":
                CapQuery query = CapQuery.of(args.path("user").asText(), args.path("da").asText()).keys(texts(args.path("keys")));
                return client.cap(args.has("kind") ? query.kind(args.path("kind").asText()) : query);
            case "check":
                return client.check(JSON.treeToValue(body, Types.CheckBody.class));
            case "reserve":
                Types.ReserveBody reserve = JSON.treeToValue(body, Types.ReserveBody.class);
                return body.path("ttl").isNull() ? client.reserveForGood(reserve) : client.reserve(reserve);
            case "release":
                return new Decision<>(client.release(JSON.treeToValue(body, Types.ReleaseBody.class)), null);
            case "pixel":
                String path = pixel(args.path("claims")).sign(args.path("kid").asText(), args.path("secret").asText());
                HttpResponse<byte[]> fetched = HttpClient.newHttpClient()
                    .send(HttpRequest.newBuilder(URI.create(url() + path)).build(), HttpResponse.BodyHandlers.ofByteArray());
                return new Decision<>(Map.of("result", fetched.headers().firstValue("freqcap-result").orElse("")), null);
            case "user_caps":
                return new Decision<>(client.userCaps(args.path("user").asText()), null);
            case "stream":
                List<StreamEvent> events = new ArrayList<>();
                boolean now = args.path("from").asText().equals("now");
                client.stream(new StreamQuery(null, args.path("keys").asText(), now, null, PATIENT), event -> {
                    events.add(event);
                    return events.size() < args.path("take").asInt();
                });
                return new Decision<>(events, null);
            default:
                throw new IllegalArgumentException("no call " + step.path("call"));
        }
    }

    private static List<Types.EventBody> events(JsonNode args) throws Exception {
        List<Types.EventBody> events = new ArrayList<>();
        for (JsonNode event : args.path("events")) {
            events.add(JSON.treeToValue(event, Types.EventBody.class));
        }
        for (int place = 0; place < args.path("repeat").asInt(); place++) {
            Types.EventBody event = JSON.treeToValue(args.path("event"), Types.EventBody.class);
            event.da = event.da + "-" + place;
            event.user = args.has("bad") && args.path("bad").asInt() == place ? "" : event.user;
            events.add(event);
        }
        return events;
    }

    private static void compare(JsonNode wanted, JsonNode got, String where) {
        if (wanted.isObject()) {
            assertTrue(got.isObject(), where + " is " + got);
            wanted.fields().forEachRemaining(one -> compare(one.getValue(), got.path(one.getKey()), where + "." + one.getKey()));
        } else if (wanted.isArray()) {
            assertTrue(got.isArray() && got.size() == wanted.size(), where + " is " + got);
            for (int place = 0; place < wanted.size(); place++) {
                compare(wanted.path(place), got.path(place), where + "[" + place + "]");
            }
        } else if (wanted.asText().equals("$int")) {
            assertTrue(got.isIntegralNumber(), where + " is " + got);
        } else if (wanted.asText().equals("$text")) {
            assertTrue(got.isTextual() && !got.asText().isEmpty(), where + " is " + got);
        } else if (wanted.isNull()) {
            assertTrue(got.isNull() || got.isMissingNode(), where + " is " + got);
        } else {
            assertEquals(wanted.toString(), got.toString(), where);
        }
    }

    private static void compareError(JsonNode wanted, FreqcapException error) {
        if (wanted.has("unavailable")) {
            UnavailableException failed = assertInstanceOf(UnavailableException.class, error);
            assertEquals(REASONS.get(wanted.path("unavailable").asText()), failed.reason());
            assertEquals(wanted.path("rest").asInt(), failed.rest().size());
            assertTrue(failed.rest().stream().allMatch(event -> event.id != null));
        } else {
            ProblemException problem = assertInstanceOf(ProblemException.class, error);
            assertEquals(wanted.path("status").asInt() + " " + wanted.path("code").asText(), problem.status() + " " + problem.code());
        }
    }

    private static Pixel pixel(JsonNode claims) {
        return Pixel.of(claims.path("user").asText(), claims.path("da").asText(), claims.path("id").asText())
            .keys(texts(claims.path("keys"))).kind(claims.path("kind").asText(null))
            .valid(claims.path("iat").asLong(), claims.path("exp").asLong());
    }

    @TestFactory
    Stream<DynamicTest> signing() throws Exception {
        return list(vectors().path("signing")).map(vector -> DynamicTest.dynamicTest(vector.path("name").asText(), () -> {
            Pixel pixel = pixel(vector.path("claims"));
            assertEquals(vector.path("url").asText(), pixel.sign(vector.path("kid").asText(), vector.path("secret").asText()));
        }));
    }

    @Test
    void withoutAWordOnTimesASignatureHoldsForAnHour() throws Exception {
        long before = System.currentTimeMillis();
        String event = Pixel.of("u", "d", "i").sign("k", "s").split("[=&]")[1];
        ObjectNode claims = (ObjectNode) JSON.readTree(Base64.getUrlDecoder().decode(event));
        assertTrue(before <= claims.path("iat").asLong() && claims.path("iat").asLong() <= System.currentTimeMillis());
        assertEquals(3_600_000, claims.path("exp").asLong() - claims.path("iat").asLong());
    }

    @Test
    void settingsThatMakeNoSenseAreRefused() throws Exception {
        Path empty = Files.createFile(folder.resolve("empty"));
        assertThrows(IllegalArgumentException.class, () -> Client.of("127.0.0.1:8080").build());
        assertThrows(IllegalArgumentException.class, () -> Client.of("http://a").key("a").keyFile(empty).build());
        assertThrows(IllegalArgumentException.class, () -> Client.of("http://a").keyFile(empty).build());
    }
}
