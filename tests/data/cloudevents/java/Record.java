// Writes ../java.json: events as the CloudEvents SDK for Java puts them on Kafka.
//
//     mvn -q dependency:build-classpath -Dmdep.outputFile=classpath && java -cp "$(cat classpath)" Record.java
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import io.cloudevents.CloudEvent;
import io.cloudevents.core.builder.CloudEventBuilder;
import io.cloudevents.core.message.Encoding;
import io.cloudevents.jackson.JsonFormat;
import io.cloudevents.kafka.CloudEventSerializer;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.OffsetDateTime;
import java.util.*;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeaders;

public class Record {
  static CloudEventBuilder event(String id) {
    return CloudEventBuilder.v1().withId(id).withSource(URI.create("/sdk/java")).withType("sdk.made")
        .withTime(OffsetDateTime.parse("2026-11-24T09:00:00Z"));
  }

  static byte[] text(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  static String base64(byte[] bytes) {
    return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
  }

  static Map<String, Object> record(String name, CloudEvent event, Encoding mode) {
    var serializer = new CloudEventSerializer();
    var config = new HashMap<String, Object>(Map.of(CloudEventSerializer.ENCODING_CONFIG, mode));
    if (mode == Encoding.STRUCTURED) config.put(CloudEventSerializer.EVENT_FORMAT_CONFIG, JsonFormat.CONTENT_TYPE);
    serializer.configure(config, false);
    var headers = new RecordHeaders();
    var value = serializer.serialize("mesh.events", headers, event);
    var written = new ArrayList<List<String>>();
    for (Header header : headers) written.add(Arrays.asList(header.key(), base64(header.value())));
    var record = new LinkedHashMap<String, Object>();
    record.put("name", name);
    record.put("mode", mode.name().toLowerCase(Locale.ROOT));
    record.put("headers", written);
    record.put("value", base64(value));
    return record;
  }

  public static void main(String[] args) throws Exception {
    var events = new LinkedHashMap<String, CloudEvent>();
    events.put("json", event("java-json").withSubject("7").withExtension("tenant", "süd").withExtension("retries", 3)
        .withExtension("urgent", true).withData("application/json", text("{\"n\":1}")).build());
    events.put("json-charset", event("java-charset").withData("application/json; charset=utf-8", text("{\"n\":1}")).build());
    events.put("untyped", event("java-untyped").withData(text("{\"n\":1}")).build());
    events.put("text", event("java-text").withData("text/plain", text("süß")).build());
    events.put("bytes", event("java-bytes").withData("application/octet-stream", new byte[] {8, (byte) 200, 1}).build());
    events.put("bytes-utf8", event("java-utf8").withData("application/octet-stream", new byte[] {8, 1}).build());
    events.put("empty", event("java-empty").build());
    var records = new ArrayList<Map<String, Object>>();
    for (var entry : events.entrySet())
      for (var mode : new Encoding[] {Encoding.BINARY, Encoding.STRUCTURED})
        records.add(record(entry.getKey(), entry.getValue(), mode));
    var document = new LinkedHashMap<String, Object>();
    document.put("made_by", "Maven io.cloudevents:cloudevents-kafka, cloudevents-json-jackson 4.0.1");
    document.put("records", records);
    new ObjectMapper().enable(SerializationFeature.INDENT_OUTPUT).writeValue(Path.of("../java.json").toFile(), document);
  }
}
