<?php
// HUB_KEY=... HUB_URL=http://localhost:8080/.well-known/mercure php publish.php news 'Hello'
// Needs PHP 8 and no library. HUB_KEY is the hub's secret. Prints the id of the update.
declare(strict_types=1);

function encode(string $bytes): string
{
    return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
}

function make_token(string $url, string $key, string $topic): string
{
    $header = ['typ' => 'at+jwt', 'alg' => 'HS256'];
    $detail = [
        'type' => 'https://mercure.rocks/authorization-detail',
        'actions' => ['publish'],
        'topics' => [['match' => $topic]],
    ];
    $claims = ['aud' => $url, 'exp' => time() + 300, 'authorization_details' => [$detail]];
    $signed = encode(json_encode($header, JSON_THROW_ON_ERROR)) . '.' . encode(json_encode($claims, JSON_THROW_ON_ERROR));
    return $signed . '.' . encode(hash_hmac('sha256', $signed, $key, true));
}

function publish(string $url, string $key, string $topic, string $text): string
{
    // With its own id, an update can be published again if the response was lost: it appears once.
    $form = ['topic' => $topic, 'data' => $text, 'id' => 'urn:x-php:' . bin2hex(random_bytes(16))];
    $options = ['http' => [
        'method' => 'POST',
        'header' => [
            'Authorization: Bearer ' . make_token($url, $key, $topic),
            'Content-Type: application/x-www-form-urlencoded',
        ],
        'content' => http_build_query($form),
        'timeout' => 30,
        'ignore_errors' => true,
    ]];
    for ($attempt = 1; ; $attempt++) {
        $http_response_header = [];
        $answer = @file_get_contents($url, false, stream_context_create($options));
        $status = (int) (explode(' ', $http_response_header[0] ?? '')[1] ?? 0);
        if ($status === 200) {
            return $answer;
        }
        if ($attempt === 5 || !in_array($status, [0, 502, 503, 504], true)) {
            throw new RuntimeException($status ? "$status: " . trim((string) $answer) : "$url does not answer");
        }
        sleep($attempt);
    }
}

try {
    echo publish(getenv('HUB_URL'), getenv('HUB_KEY'), $argv[1], $argv[2]), "\n";
} catch (RuntimeException $error) {
    fwrite(STDERR, $error->getMessage() . "\n");
    exit(1);
}
