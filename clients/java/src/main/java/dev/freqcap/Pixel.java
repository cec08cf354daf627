package dev.freqcap;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** An event to be counted by a signed address. With its id it counts once, however often the address is fetched. */
public final class Pixel {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final String user;
    private final String da;
    private final String id;
    private List<String> keys = List.of();
    private String kind;
    private long issuedAt;
    private long expiresAt;

    private Pixel(String user, String da, String id) {
        this.user = user;
        this.da = da;
        this.id = id;
    }

    public static Pixel of(String user, String da, String id) {
        return new Pixel(user, da, id);
    }

    public Pixel keys(List<String> keys) {
        this.keys = List.copyOf(keys);
        return this;
    }

    public Pixel kind(String kind) {
        this.kind = kind;
        return this;
    }

    /** Instants in ms since 1970, at most 7 days apart. Without them: now, and an hour later. */
    public Pixel valid(long issuedAt, long expiresAt) {
        this.issuedAt = issuedAt;
        this.expiresAt = expiresAt;
        return this;
    }

    /**
     * The path of the pixel, {@code /i.gif?e=..&s=..}, signed where the ad is served: no call is made. Macros of players go behind it,
     * as {@code &t=[TIMESTAMP]}.
     */
    public String sign(String kid, String secret) {
        long from = issuedAt == 0 ? System.currentTimeMillis() : issuedAt;
        ObjectNode claims = JSON.createObjectNode().put("u", user).put("d", da).put("i", id);
        if (!keys.isEmpty()) {
            keys.forEach(claims.putArray("k")::add);
        }
        if (kind != null) {
            claims.put("n", kind);
        }
        claims.put("iat", from).put("exp", expiresAt == 0 ? from + 3_600_000 : expiresAt).put("kid", kid);
        Base64.Encoder base64url = Base64.getUrlEncoder().withoutPadding();
        try {
            String event = base64url.encodeToString(JSON.writeValueAsString(claims).getBytes(StandardCharsets.UTF_8));
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(secret.getBytes(StandardCharsets.UTF_8), "HmacSHA256"));
            byte[] signature = Arrays.copyOf(mac.doFinal(event.getBytes(StandardCharsets.US_ASCII)), 16);
            return "/i.gif?e=" + event + "&s=" + base64url.encodeToString(signature);
        } catch (JsonProcessingException | GeneralSecurityException error) {
            throw new IllegalStateException("every Java has HMAC-SHA256, and texts are always JSON", error);
        }
    }
}
