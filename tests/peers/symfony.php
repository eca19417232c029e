<?php

/*
 * Publishes and writes a page with Symfony's Mercure component as the JSON on stdin says, and prints the results as JSON.
 *
 *     php symfony.php < asked.json
 */

use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\RequestStack;
use Symfony\Component\Mercure\Authorization;
use Symfony\Component\Mercure\Discovery;
use Symfony\Component\Mercure\Hub;
use Symfony\Component\Mercure\HubRegistry;
use Symfony\Component\Mercure\Jwt\FactoryTokenProvider;
use Symfony\Component\Mercure\Jwt\StaticTokenProvider;
use Symfony\Component\Mercure\Jwt\TokenFactoryInterface;
use Symfony\Component\Mercure\Twig\MercureExtension;
use Symfony\Component\Mercure\Twig\MercureRuntime;
use Symfony\Component\Mercure\Update;
use Symfony\Component\WebLink\HttpHeaderSerializer;

// The paths of Debian's packages.
foreach (['Symfony/Component/Mercure', 'Symfony/Component/HttpFoundation', 'Symfony/Component/WebLink', 'Twig'] as $name) {
    require_once "$name/autoload.php";
}

/** Replaces lcobucci/jwt, which Debian does not package. */
final class Signer implements TokenFactoryInterface
{
    public function __construct(private string $secret)
    {
    }

    public function create(?array $subscribe = [], ?array $publish = [], array $additionalClaims = []): string
    {
        $claims = $additionalClaims;
        if (isset($claims['exp'])) {
            $claims['exp'] = (float) $claims['exp']->format('U.u');
        }
        $claims['mercure'] = ['publish' => $publish, 'subscribe' => $subscribe];
        $write = fn (string $bytes): string => rtrim(strtr(base64_encode($bytes), '+/', '-_'), '=');
        $signed = $write('{"typ":"JWT","alg":"HS256"}').'.'.$write(json_encode($claims));

        return $signed.'.'.$write(hash_hmac('sha256', $signed, $this->secret, true));
    }
}

$asked = json_decode(stream_get_contents(STDIN), true, 512, JSON_THROW_ON_ERROR);
$factory = new Signer($asked['secret']);
$provider = isset($asked['token'])
    ? new StaticTokenProvider($asked['token'])
    : new FactoryTokenProvider($factory, [], $asked['publish'] ?? ['*']);
$hub = new Hub($asked['url'], $provider, $factory);
$registry = new HubRegistry($hub);
$request = Request::create($asked['url']);
$requests = new RequestStack();
$requests->push($request);

$done = [];
foreach ($asked['updates'] ?? [] as $update) {
    try {
        $done['ids'][] = $hub->publish(new Update(...$update));
    } catch (Symfony\Component\Mercure\Exception\RuntimeException $exception) {
        $done['ids'][] = $exception->getPrevious()->getCode();
    }
}
if (isset($asked['page'])) {
    [$topics, $options] = $asked['page'];
    // Newer versions have the template function in a separate class.
    $class = class_exists(MercureRuntime::class) ? MercureRuntime::class : MercureExtension::class;
    $done['url'] = (new $class($registry, new Authorization($registry), $requests))->mercure($topics, $options);
    $cookies = $request->attributes->get('_mercure_authorization_cookies', []);
    $done['cookies'] = array_map('strval', array_values($cookies));
    (new Discovery($registry))->addLink($request);
    $done['link'] = (new HttpHeaderSerializer())->serialize($request->attributes->get('_links')->getLinks());
}
echo json_encode($done, JSON_THROW_ON_ERROR);
